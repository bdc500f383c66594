# DNNL::DNNL: oneDNN 2.6 (Debian libdnnl-dev, which ships no usable package file) or 3.x, by prefix: -DDNNL_ROOT=DIR, the
# environment's DNNL_ROOT, or CMAKE_PREFIX_PATH. Header and library come from the same place: a prefix that holds a header
# never pairs with the system's library.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.h)
if(DNNL_INCLUDE_DIR)
  get_filename_component(DNNL_PLACE ${DNNL_INCLUDE_DIR} DIRECTORY)
  find_library(DNNL_LIBRARY NAMES dnnl libdnnl.so.3 PATHS ${DNNL_PLACE} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH)
  if(NOT DNNL_LIBRARY AND DNNL_PLACE STREQUAL "/usr")
    find_library(DNNL_LIBRARY dnnl)
  endif()
  file(STRINGS ${DNNL_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h DNNL_LINES REGEX "#define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9;]+" "" DNNL_VERSION "${DNNL_LINES}")
  string(REPLACE ";" "." DNNL_VERSION "${DNNL_VERSION}")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(DNNL REQUIRED_VARS DNNL_LIBRARY DNNL_INCLUDE_DIR VERSION_VAR DNNL_VERSION)
if(DNNL_FOUND AND NOT TARGET DNNL::DNNL)
  add_library(DNNL::DNNL UNKNOWN IMPORTED)
  set_target_properties(DNNL::DNNL PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
                                                    INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
endif()
