// tokenizer.h: text to token ids, equal to transformers' fast tokenizers.
#ifndef GRIDSEG_TEXT_TOKENIZER_H
#define GRIDSEG_TEXT_TOKENIZER_H

#include "base/key.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer; // opaque, immutable once loaded, thread-safe

// Load the tokenizer that a model directory holds: vocab.json + merges.txt, or bpe_simple_vocab_16e6.txt.gz (CLIP byte-pair), or
// vocab.txt (BERT's WordPiece; tokenizer_config.json says whether it lower-cases). `limit` is the longest sequence with its
// special tokens (77 for CLIP, 256 for BiomedCLIP). ERR_ARG names the folder and what was looked for.
status_t tokenizer_load(const char *model_directory, int limit, struct tokenizer **out);
void tokenizer_destroy(struct tokenizer **tokenizer);

int tokenizer_limit(const struct tokenizer *t);
int tokenizer_size(const struct tokenizer *t);              // ids are in [0, size)
int tokenizer_start(const struct tokenizer *t);             // id of <|startoftext|>, [CLS]
int tokenizer_end(const struct tokenizer *t);               // id of <|endoftext|>, [SEP]
const struct key *tokenizer_key(const struct tokenizer *t); // content key of the vocabulary: part of text feature keys

// Ids of one UTF-8 text with start and end token, truncated to `limit` as transformers does (the last is then the end token).
// `ids` has room for tokenizer_limit(); *count is the true length, without padding. Invalid UTF-8 is ERR_FORMAT with the byte
// offset named.
status_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int32_t *ids, int *count);

// gridseg tokens --model DIR [TEXT]: ids of TEXT, or of each line of standard input, one text a line.
status_t tokens_command(int argc, char **argv);

#endif
