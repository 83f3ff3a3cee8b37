// Package tgi is the client of a Hugging Face text-generation-inference server (TGI): generation, whole and streamed, scoring of a
// given text, tokenizing, chat templates, health and load. Answers are checked before they are used: the finish reason, one finite
// log-probability per token id, as many tokens as are announced. Nothing is ever padded or guessed.
//
// It was built from the sources of TGI 2 and 3 (router/src: lib.rs, server.rs, validation.rs, infer/mod.rs; server: utils/tokens.py;
// docs/openapi.json) and from its issue threads, and has only been run against the imitation in tgitest, which was written from the
// same reading; never against a real TGI.
//
// What differs from an OpenAI-like server, and what is made of it:
//
//   - Texts go to /generate. TGI's own /v1/chat/completions returns no token ids, and a continuation without ids can be neither
//     trained on nor scored. /generate knows no chat template; with Config.Chat the server's template is applied through
//     /chat_tokenize, and what /generate would add to the text by itself, as <s>, is taken off its beginning. Whether the model has a
//     template is not told by /info: it is the configuration's to say.
//   - Several answers are as many requests with a seed each. The server's best_of returns them all too, but refuses a seed, so that
//     nothing could be repeated, and its limit is 2 unless the server was started with another.
//   - Temperature 0 is refused; greedy is do_sample false and no temperature.
//   - Log-probabilities of sampled tokens are those of the distribution sampled from: temperature, top_p and top_k have gone into
//     them. Those that Score returns are the model's own.
//   - Score needs a server started with --enable-prefill-logprobs (from version 3; before, it is always on) and takes a text, for
//     there is no way to send ids. What the server makes of the text is compared with the ids meant.
//   - Adapters are those that the server was started with, and nothing lists them. A name that it does not know is answered by the
//     base model without a word (issue 2505), so Config.Adapters names them and any other is refused here.
//   - A prompt and max_tokens that do not fit together are refused, not cut.
//   - There are no soft prompts.
package tgi
