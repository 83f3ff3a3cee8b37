package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/progress"
	"recpie/internal/torch"
)

func (a *app) lmCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "lm", Short: "The embedded language model: serve it, warm it up", Example: "  recpie lm serve --listen 127.0.0.1:8000\n  recpie lm warmup --data my/data"}
	cmd.AddCommand(a.lmServeCmd(), a.lmWarmupCmd(), a.lmMergeCmd())
	return cmd
}

func (a *app) lmWarmupCmd() *cobra.Command {
	return &cobra.Command{
		Use: "warmup", Short: "Train the small embedded model on sentences built from training records, and print its folder", Args: cobra.NoArgs,
		Example: "  recpie lm warmup --data ml-100k\n  recpie lm serve --model $(recpie lm warmup)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			torch.SetThreads(1)
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			w, err := prepare(cmd.Context(), c)
			if err != nil {
				return err
			}
			dir, err := languageModel(cmd.Context(), c, w, show)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), map[string]string{"dir": dir}, func(w io.Writer) { fmt.Fprintln(w, dir) })
		},
	}
}

func (a *app) lmMergeCmd() *cobra.Command {
	var model, adapter, out string
	cmd := &cobra.Command{
		Use: "merge", Short: "Write a model with an adapter added to its weights, for servers that serve no adapters on it", Args: cobra.NoArgs,
		Long: `Merge reads a model folder and a PEFT adapter of it and writes a full float32 checkpoint with tokenizer and chat template. vLLM serves no
adapters on GPT-2, so a trained GPT-2 is served merged (recpie doctor says which way a server takes).`,
		Example: "  recpie lm merge --model models/gpt2 --adapter runs/one/adapters/r3 --out models/gpt2-r3",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for flag, v := range map[string]string{"model": model, "adapter": adapter, "out": out} {
				if v == "" {
					return &usageError{fmt.Errorf("--%s is missing", flag)}
				}
			}
			if err := lm.Merge(model, adapter, out); err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), map[string]string{"dir": out}, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "Hugging Face folder of the base model")
	f.StringVar(&adapter, "adapter", "", "PEFT folder: adapter_config.json and adapter_model.safetensors")
	f.StringVar(&out, "out", "", "folder to write; it must not exist")
	return cmd
}

func (a *app) lmServeCmd() *cobra.Command {
	var listen, model, root, state, name, keyEnv, device, dtype string
	var checkpointing, durable, dropUnembed bool
	var sessions, models, samplers int
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a model over vLLM's API and the adapter-training API on one port", Args: cobra.NoArgs,
		Long: `Serve answers vLLM's API (/v1/...) and the adapter-training API (/api/v1/...) on one port until it is stopped. Without --model it serves
the warmed-up model of the configured data. Off loopback it needs a key, read from the environment variable named by --key-env.`,
		Example: "  recpie lm serve --listen 127.0.0.1:8000\n  recpie lm serve --model models/gpt2 --adapter-root adapters --state lm-state\n  recpie lm serve --model models/Llama-3.1-8B-Instruct --device cuda --dtype bfloat16 --checkpoint-activations",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			torch.SetThreads(1)
			key := ""
			if keyEnv != "" {
				if key = os.Getenv(keyEnv); key == "" {
					return &usageError{fmt.Errorf("environment variable %s (--key-env) is not set", keyEnv)}
				}
			}
			if model == "" {
				show := progress.New(cmd.ErrOrStderr())
				w, err := prepare(cmd.Context(), c)
				if err != nil {
					return err
				}
				if model, err = languageModel(cmd.Context(), c, w, show); err != nil {
					return err
				}
				show.Close()
			}
			set(&c.LM.Device, device)
			if set(&c.LM.DType, dtype); c.LM.DType != "float32" && c.LM.DType != "bfloat16" {
				return &usageError{fmt.Errorf("--dtype %q: float32 and bfloat16 are known", dtype)}
			}
			bundle, err := lm.Load(model, lm.LoadOptions{Device: lm.Device(c.LM.Device), BFloat16: c.LM.DType == "bfloat16"})
			if err != nil {
				return err
			}
			defer bundle.Model.Close()
			if bundle.Name = name; name == "" {
				bundle.Name = filepath.Base(model)
			}
			if err := serveDirs(listen, &root, &state); err != nil {
				return err
			}
			srv, err := lmserver.New(lmserver.Options{Model: bundle, Listen: listen, APIKey: key, AdapterRoot: root, StateDir: state, Checkpointing: checkpointing || c.LM.Checkpoint,
				DropUnembed: dropUnembed, DurableSteps: durable, MaxSessions: sessions, MaxModels: models, MaxSamplers: samplers,
				Engine: lm.EngineOptions{Workers: threads(c), KVBytes: c.LM.KVMemory << 20}, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "serving %s on %s (adapters below %s, training checkpoints in %s)\n", bundle.Name, srv.URL(), orOff(root), orOff(state))
			return srv.Serve(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8000", "address")
	f.StringVar(&model, "model", "", "Hugging Face folder; empty warms up a small model on the configured data")
	f.StringVar(&device, "device", "", "where to compute: cpu, cuda or cuda:N (a libtorch with CUDA; default lm.device)")
	f.StringVar(&dtype, "dtype", "", "weights in memory: float32, or bfloat16 on a GPU (default lm.dtype)")
	f.BoolVar(&checkpointing, "checkpoint-activations", false, "training computes the layers again for the gradient: a third slower, the memory of one layer")
	f.StringVar(&name, "name", "", "served model name (default: the folder's)")
	f.StringVar(&root, "adapter-root", "", "the only folder that adapters are loaded from; off turns loading off (default a folder of the port in the cache)")
	f.StringVar(&state, "state", "", "folder of training checkpoints; off turns the training API off (default a folder of the port in the cache)")
	f.BoolVar(&durable, "durable-steps", true, "put weights and moments on disk after every optimizer step, before it is acknowledged: a server started again over the same --state goes on from there")
	f.BoolVar(&dropUnembed, "drop-unembed", false, "make adapters without the part on the unembedding that the official client asks for by default, instead of refusing them")
	f.IntVar(&sessions, "max-sessions", 0, "sessions at a time (default 4096); beyond these limits clients are told to come later")
	f.IntVar(&models, "max-models", 0, "adapters under training at a time (default 64)")
	f.IntVar(&samplers, "max-samplers", 0, "sampling sessions at a time (default 1024)")
	f.StringVar(&keyEnv, "key-env", "", "environment variable that holds the API key")
	return cmd
}

// set takes a flag's value where one is given.
func set(to *string, flag string) {
	if flag != "" {
		*to = flag
	}
}

// serveDirs makes the folders of a server. One that is not named lies in the cache, apart for every port, so that what was trained is there after
// a restart; "off" stands for none.
func serveDirs(listen string, root, state *string) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return &usageError{fmt.Errorf("--listen: %w", err)}
	}
	for name, dir := range map[string]*string{"adapters": root, "state": state} {
		switch *dir {
		case "off":
			*dir = ""
			continue
		case "":
			*dir = filepath.Join(cache, "serve", port, name)
		}
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return fault.New(fault.Fatal, "lm serve", err)
		}
	}
	return nil
}

func orOff(dir string) string {
	if dir == "" {
		return "off"
	}
	return dir
}
