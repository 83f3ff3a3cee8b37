package encoder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
)

// batchTokens bounds the padded tokens of one pass.
const batchTokens = 4096

// Encoder encodes texts. It may be used by several goroutines; they take turns.
type Encoder struct {
	model  *bert
	tok    *tokenizer.Tokenizer
	digest string
	cls    int32
	sep    int32
	known  shelf
}

// Open loads the encoder in the folder dir (config.json, model.safetensors, tokenizer.json) onto a device: "" and "cpu", "cuda" or
// "cuda:N". Vectors are kept below cacheDir, "" keeps none.
func Open(dir, cacheDir, device string) (*Encoder, error) {
	dev, err := torch.ParseDevice(device)
	if err == nil {
		err = dev.Available()
	}
	if err != nil {
		return nil, err
	}
	e, err := open(dir, cacheDir, dev)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "encoder: "+dir, err), "'make setup' fetches the encoder")
	}
	return e, nil
}

func open(dir, cacheDir string, dev torch.Device) (*Encoder, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	e := &Encoder{}
	if e.tok, err = tokenizer.Load(filepath.Join(dir, "tokenizer.json")); err != nil {
		return nil, err
	}
	for token, id := range map[string]*int32{"[CLS]": &e.cls, "[SEP]": &e.sep} {
		var ok bool
		if *id, ok = e.tok.ID(token); !ok {
			return nil, fmt.Errorf("tokenizer.json has no token %s", token)
		}
	}
	if e.tok.VocabSize() > c.Vocab {
		return nil, fmt.Errorf("tokenizer.json has %d tokens, the model %d", e.tok.VocabSize(), c.Vocab)
	}
	if e.digest, err = digestOf(dir, c); err != nil {
		return nil, err
	}
	if e.model, err = loadBERT(dir, c, dev); err != nil {
		return nil, err
	}
	if cacheDir != "" {
		if e.known.cache, err = openCache(cacheDir, e.digest, c.Hidden); err != nil {
			e.model.w.Free()
			return nil, err
		}
	}
	return e, nil
}

// digestOf names everything that decides a vector: weights, tokenizer, sizes, the limit of tokens and the pooling.
func digestOf(dir string, c config) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "recpie encoder 1, %d tokens\n", c.maxTokens)
	if c.cls {
		fmt.Fprintln(h, "first token")
	}
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Dim returns the length of the vectors.
func (e *Encoder) Dim() int { return e.model.Hidden }

// Digest names the weights, the tokenizer and the limit of tokens: it belongs into the key of whatever depends on the vectors.
func (e *Encoder) Digest() string { return e.digest }

// Close frees the weights and closes the cache.
func (e *Encoder) Close() error {
	e.known.mu.Lock()
	defer e.known.mu.Unlock()
	e.model.w.Free()
	return e.known.close()
}

// Embed returns the vector of each text, of length 1. Texts are cut at the encoder's limit of tokens. Each distinct text that the
// cache does not have is encoded once, and is in the cache when Embed returns; after an error, batches that were finished are.
func (e *Encoder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	return e.known.embed(ctx, texts, e.encode)
}

func (e *Encoder) tokens(text string) []int32 {
	ids := e.tok.Encode(text, false)
	if most := e.model.maxTokens - 2; len(ids) > most {
		ids = ids[:most]
	}
	return append(append([]int32{e.cls}, ids...), e.sep)
}

// tokenised is a text to encode.
type tokenised struct {
	key key
	ids []int32
}

// encode works through the missing texts in batches of similar length, as many at a time as there are cores.
func (e *Encoder) encode(ctx context.Context, texts []missing, keep keeper) error {
	var left []tokenised
	for _, t := range texts {
		left = append(left, tokenised{t.key, e.tokens(t.text)})
	}
	slices.SortStableFunc(left, func(a, b tokenised) int { return cmp.Compare(len(a.ids), len(b.ids)) })
	workers := runtime.GOMAXPROCS(0)
	most := (len(left) + workers - 1) / workers // no core waits while another works through everything
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for len(left) > 0 && gctx.Err() == nil {
		n := 1
		for n < min(len(left), most) && (n+1)*len(left[n].ids) <= batchTokens {
			n++
		}
		batch := left[:n]
		left = left[n:]
		g.Go(func() error {
			ids, keys, vectors := make([][]int32, n), make([]key, n), make([][]float32, n)
			for k, t := range batch {
				ids[k], keys[k] = t.ids, t.key
			}
			flat, err := e.model.encode(ids)
			if err != nil {
				return fault.New(fault.Fatal, "encoder", err)
			}
			for k := range vectors {
				vectors[k] = flat[k*e.Dim() : (k+1)*e.Dim() : (k+1)*e.Dim()]
			}
			return keep(keys, vectors)
		})
	}
	return g.Wait()
}
