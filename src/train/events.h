// events.h: TensorBoard event files: scalars as TFRecords of the Event protocol buffer, written by hand (two messages,
// ten fields: no library for that).
#ifndef GRIDSEG_TRAIN_EVENTS_H
#define GRIDSEG_TRAIN_EVENTS_H

#include "base/status.h"

#include <stdint.h>

struct events; // one open file

// Create FOLDER/events.out.tfevents.<seconds>.<host>.<pid>.0. `from_step` > 0: a run that goes on; readers then drop
// what older files of the folder hold from that step on.
status_t events_open(const char *folder, int64_t from_step, struct events **out);
status_t events_scalar(struct events *e, const char *tag, int64_t step, double value); // stored as fp32
status_t events_flush(struct events *e); // hands everything to the operating system
void events_close(struct events **e);

uint32_t events_crc32c(const void *bytes, size_t size); // Castagnoli's polynomial; public for its test

#endif
