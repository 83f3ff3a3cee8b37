// Package adapters keeps what a language model was taught as immutable versions and puts them into service.
//
// A version is a folder <store>/<name>/ that appears whole and never changes:
//
//	adapter_config.json, adapter_model.safetensors   the LoRA in PEFT's layout, as servers load it; absent when only a soft prompt is trained
//	soft_prompt.safetensors                          projection and snapshot of the consumer table; absent without a soft prompt
//	manifest.json                                    lineage and the SHA-256 of every file above
//
// Its name is policy-v<number>-<first 8 hex digits of the content's digest>: servers keep adapters by name, and a name that could mean two contents
// would let one replica serve the old one. The package does not know how a version was trained and needs no tensor library.
package adapters
