// test_model_config.c: config.json of the image-only models: which architecture it tells, what is refused and how, and how many
// tensors and parameters the graph of a published size declares (segmentation_models_pytorch 0.6.0's counts). ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "models/model.h"
#include "testing.h"

static char folder[64];

static int make_folder(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof folder, "%s", test_folder());
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  return file_remove_tree(folder) == OK ? 0 : 1;
}

static status_t open_text(const char *config, struct model **out) {
  char path[128];
  (void)snprintf(path, sizeof path, "%s/config.json", folder);
  assert_ok(file_write_atomic(path, config, strlen(config)));
  return model_open(folder, out);
}

static void architecture(void **state) {
  (void)state;
  static const struct {
    const char *config, *arch;
  } cases[] = {
      {"{\"_model_class\": \"Unet\"}", "unet"},
      {"{\"_model_class\": \"UnetPlusPlus\", \"encoder_name\": \"resnet152\"}", "unetpp"},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"encoder_weights\": \"imagenet\"}", "deeplabv3plus"},
      {"{\"model_type\": \"unetpp\", \"_model_class\": \"Unet\"}", "unetpp"},
      {"{\"_model_class\": \"Unet\", \"decoder_use_batchnorm\": true}", "unet"},                 // smp 0.3
      {"{\"_model_class\": \"Unet\", \"decoder_use_norm\": {\"type\": \"batchnorm\"}}", "unet"}, // smp 0.5
      {"{\"_model_class\": \"Unet\", \"classes\": 2, \"id2label\": {\"0\": \"a\", \"1\": \"b\"}}", "unet"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct model *m = NULL;
    assert_ok(open_text(cases[i].config, &m));
    assert_string_equal(m->arch->name, cases[i].arch);
    assert_int_equal(m->preprocess.size, 256);
    int limit = -1, vocabulary = -1;
    m->arch->text(m->config, &limit, &vocabulary);
    assert_true(limit == 0 && vocabulary == 0);
    assert_true(m->arch->is_encoder("encoder.layer1.0.conv1.weight"));
    assert_false(m->arch->is_encoder("decoder.blocks.0.conv1.0.weight"));
    model_close(&m);
  }
}

static void refusals(void **state) {
  (void)state;
  static const struct {
    const char *config, *says;
    status_t code;
  } cases[] = {
      {"{}", "model_type", ERR_FORMAT},
      {"{\"_model_class\": \"Linknet\"}", "Linknet", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"encoder_name\": \"vgg16\"}", "vgg16", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"encoder_depth\": 4}", "encoder_depth", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"in_channels\": 1}", "in_channels", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"classes\": 0}", "classes", ERR_FORMAT},
      {"{\"_model_class\": \"Unet\", \"activation\": \"sigmoid\"}", "activation", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"aux_params\": {\"classes\": 4}}", "aux_params", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"decoder_attention_type\": \"scse\"}", "decoder_attention_type", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"decoder_use_batchnorm\": false}", "decoder_use_batchnorm", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"decoder_use_norm\": {\"type\": \"batchnorm\", \"eps\": 1}}", "decoder_use_norm",
       ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"decoder_interpolation\": \"bilinear\"}", "bilinear", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"Unet\", \"decoder_channels\": [8, 8, 8, 8]}", "decoder_channels", ERR_FORMAT},
      {"{\"_model_class\": \"Unet\", \"decoder_channels\": [8, 8, 8, 8, 0]}", "decoder_channels", ERR_FORMAT},
      {"{\"_model_class\": \"Unet\", \"classes\": 2, \"id2label\": {\"0\": \"a\"}}", "id2label", ERR_FORMAT},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"encoder_output_stride\": 12}", "encoder_output_stride",
       ERR_UNSUPPORTED},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"decoder_atrous_rates\": [1, 2]}", "decoder_atrous_rates", ERR_FORMAT},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"decoder_aspp_separable\": false}", "separable", ERR_UNSUPPORTED},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"decoder_aspp_dropout\": 1}", "decoder_aspp_dropout", ERR_FORMAT},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"upsampling\": 2}", "upsampling", ERR_UNSUPPORTED},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct model *m = NULL;
    assert_fails(cases[i].code, open_text(cases[i].config, &m), cases[i].says, "config.json");
    assert_null(m);
  }
}

static void sizes(void **state) {
  (void)state;
  static const struct {
    const char *config;
    int64_t good, bad;
  } cases[] = {
      {"{\"_model_class\": \"Unet\"}", 96, 80},
      {"{\"_model_class\": \"UnetPlusPlus\"}", 32, 16},
      {"{\"_model_class\": \"DeepLabV3Plus\"}", 80, 72},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"encoder_output_stride\": 8}", 72, 68},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct model *m = NULL;
    assert_ok(open_text(cases[i].config, &m));
    assert_ok(m->arch->check_size(m->config, cases[i].good));
    assert_fails(ERR_ARG, m->arch->check_size(m->config, cases[i].bad), "divides");
    assert_fails(ERR_ARG, m->arch->check_size(m->config, 0), "divides");
    model_close(&m);
  }
}

static bool everything(const void *context, const char *parameter) {
  (void)context;
  (void)parameter;
  return true;
}

// The graph in training and in evaluation: the same tensors, logits of the picture's size for each class.
static void graphs(void **state) {
  (void)state;
  static const struct {
    const char *config;
    int64_t size, planes;
    int tensors; // with the three buffers of each BatchNorm
    int64_t parameters;
  } cases[] = {
      {"{\"_model_class\": \"Unet\", \"encoder_name\": \"resnet50\"}", 256, 1, 380, 32521105},
      {"{\"_model_class\": \"UnetPlusPlus\", \"encoder_name\": \"resnet50\"}", 256, 1, 452, 48985745},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"encoder_name\": \"resnet50\"}", 256, 1, 379, 26677585},
      {"{\"_model_class\": \"Unet\", \"encoder_name\": \"resnet101\", \"classes\": 17}", 64, 17, 686, 51515553},
      {"{\"_model_class\": \"UnetPlusPlus\", \"encoder_name\": \"resnet152\"}", 32, 1, 1064, 83621521},
      {"{\"_model_class\": \"DeepLabV3Plus\", \"encoder_name\": \"resnet18\", \"encoder_output_stride\": 8, "
       "\"classes\": 2}",
       72, 2, 181, 12329554},
  };
  for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
    struct model *m = NULL;
    struct graph *g = NULL;
    int64_t size = cases[i / 2].size, planes = cases[i / 2].planes, parameters = 0;
    int tensors = 0;
    assert_ok(open_text(cases[i / 2].config, &m));
    assert_ok(graph_create(DTYPE_F32, &g));
    struct net net = {.g = g, .trained = everything, .training = i % 2 != 0};
    struct model_spec spec = {.batch = 2, .size = size};
    const struct value *logits = m->arch->build(&net, m->config, &spec, &m->preprocess);
    assert_ok(graph_status(g));
    assert_non_null(logits);
    assert_int_equal(logits->desc.rank, planes > 1 ? 4 : 3);
    assert_int_equal(desc_count(&logits->desc), 2 * size * size * planes);
    for (size_t k = 0; k < g->values; k++) {
      const struct value *v = g->value[k];
      if (v->kind != VALUE_PARAMETER) continue;
      tensors++;
      if (v->trained) parameters += desc_count(&v->desc);
    }
    assert_int_equal(tensors, cases[i / 2].tensors);
    assert_int_equal(parameters, cases[i / 2].parameters);
    graph_destroy(&g);
    model_close(&m);
  }
}

// A copied directory knows the size that it runs at, whether the original said one or none.
static void copies(void **state) {
  (void)state;
  char path[128], copy[96];
  struct model *m = NULL, *again = NULL;
  (void)snprintf(path, sizeof path, "%s/preprocessor_config.json", folder);
  (void)snprintf(copy, sizeof copy, "%s/copy", folder);
  static const char given[] = "{\"image_mean\": [0.5, 0.25, 0.125], \"size\": {\"shortest_edge\": 96}, \"crop\": 7}";
  for (int with = 0; with < 2; with++) {
    if (with) assert_ok(file_write_atomic(path, given, strlen(given)));
    for (int size = 64; size <= 96; size += 32) {
      assert_ok(open_text("{\"_model_class\": \"Unet\"}", &m));
      assert_ok(file_make_directories(copy));
      assert_ok(model_copy_files(m, size, copy));
      assert_ok(model_open(copy, &again));
      assert_int_equal(again->preprocess.size, size);
      assert_memory_equal(again->preprocess.mean, m->preprocess.mean, sizeof m->preprocess.mean);
      assert_memory_equal(again->preprocess.std, m->preprocess.std, sizeof m->preprocess.std);
      assert_true(again->preprocess.mean[1] == (with ? 0.25 : 0.456));
      model_close(&again);
      model_close(&m);
      assert_ok(file_remove_tree(copy));
    }
  }
  assert_ok(file_write_atomic(path, "[1]", 3));
  assert_fails(ERR_FORMAT, open_text("{\"_model_class\": \"Unet\"}", &m), "preprocessor_config.json", "object");
  assert_ok(file_remove_tree(path));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(copies),   cmocka_unit_test(graphs), cmocka_unit_test(architecture),
      cmocka_unit_test(refusals), cmocka_unit_test(sizes),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
