// Package safetensors reads and writes the safetensors format: 8 bytes of little-endian header length, a JSON header, raw tensors.
//
// The reader trusts nothing in the file. Before it allocates for a tensor it has checked that the header is no longer than 100 MB
// and than the file, that every shape times its type's size equals the bytes claimed (with overflow checks), and that the tensors
// cover the data section exactly, without overlap or hole. Tensors are read one at a time, so a large checkpoint is never in memory twice.
package safetensors
