// curves.c: see curves.h.
#include "train/curves.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct curves {
  FILE *file;
  char *path;
  int64_t bytes;
};

static const char heading[] = "kind,epoch,step,loss,dice,lr,val_loss,val_dice,images_per_s,seconds\n";

static status_t put(struct curves *c, const char *text, size_t n) {
  if (fwrite(text, 1, n, c->file) != n || fflush(c->file) != 0) {
    return FAIL(ERR_IO, "cannot write %s: %s", c->path, strerror(errno));
  }
  c->bytes += (int64_t)n;
  return OK;
}

static status_t open_at(struct curves *c, int64_t keep) {
  struct stat info;
  int fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", c->path, strerror(errno));
  c->file = fdopen(fd, "r+e");
  if (!c->file) {
    (void)close(fd);
    return FAIL(ERR_NOMEM, "no memory to open %s", c->path);
  }
  if (fstat(fd, &info) != 0) return FAIL(ERR_IO, "cannot stat %s: %s", c->path, strerror(errno));
  if (info.st_size < keep) {
    log_warn("%s has %jd bytes, the checkpoint knew of %jd: rows are missing", c->path, (intmax_t)info.st_size,
             (intmax_t)keep);
    keep = info.st_size;
  }
  if (ftruncate(fd, keep) != 0 || fseeko(c->file, keep, SEEK_SET) != 0) {
    return FAIL(ERR_IO, "cannot cut %s to %jd bytes: %s", c->path, (intmax_t)keep, strerror(errno));
  }
  c->bytes = keep;
  return keep ? OK : put(c, heading, sizeof heading - 1);
}

status_t curves_open(const char *folder, int64_t keep, struct curves **out) {
  status_t st = OK;
  struct curves *c = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(mem_format(&c->path, "%s/curves.csv", folder), done);
  TRY_GOTO(open_at(c, keep), done);
  *out = c;
  c = NULL;
done:
  curves_close(&c);
  return st;
}

status_t curves_write(struct curves *c, const struct curves_row *r) {
  char text[320], validation[64] = ",";
  if (r->validated) (void)snprintf(validation, sizeof validation, "%.9g,%.9g", r->val_loss, r->val_dice);
  int n = snprintf(text, sizeof text, "%s,%lld,%lld,%.9g,%.9g,%.9g,%s,%.4g,%.3f\n", r->epoch_end ? "epoch" : "step",
                   (long long)r->epoch, (long long)r->step, r->loss, r->dice, r->lr, validation, r->images_per_s,
                   r->seconds);
  return put(c, text, (size_t)n);
}

status_t curves_sync(struct curves *c, int64_t *bytes) {
  if (fsync(fileno(c->file)) != 0) return FAIL(ERR_IO, "cannot sync %s: %s", c->path, strerror(errno));
  *bytes = c->bytes;
  return OK;
}

void curves_close(struct curves **curves) {
  struct curves *c = *curves;
  if (!c) return;
  if (c->file) (void)fclose(c->file);
  mem_free(&c->path);
  mem_free(curves);
}
