// Package config resolves what a run does: defaults ← preset ← file ← RECPIE_* environment ← flags.
//
// viper merges the layers (key delimiter "::", so that names with dots stay whole). Before merging, a file is checked on its YAML
// node tree, which knows lines: an unknown key is an error that names file, line and the nearest right key. Only cmd reads this
// package; it hands every other package a small settings struct of its own.
package config

import "time"

// Config is everything a run can be told. The yaml/viper key of a field is its `key` tag.
type Config struct {
	Preset       string      `key:"preset" doc:"model preset: embedded, llama-3.1-8b, llama-3-8b, mixtral-8x7b, vicuna-7b, qwen2-7b, gpt2"`
	Run          string      `key:"run" doc:"run directory; an interrupted run continues from it"`
	Seed         int64       `key:"seed" doc:"seed of everything random"`
	Explanations string      `key:"explanations" doc:"on; off to train the network alone; heuristic for fixed sentences without a language model"`
	Data         Data        `key:"data"`
	LM           LM          `key:"lm"`
	Inference    Inference   `key:"inference"`
	Training     Training    `key:"training"`
	Publish      Publish     `key:"publish"`
	Prompts      Prompts     `key:"prompts"`
	Profiles     Profiles    `key:"profiles"`
	Policy       Policy      `key:"policy"`
	Recommender  Recommender `key:"recommender"`
	Encoder      Encoder     `key:"encoder"`
	Evaluate     Evaluate    `key:"evaluate"`
	Serve        Serve       `key:"serve"`
}

// Data says which records are used.
type Data struct {
	Path        string `key:"path" doc:"folder with dataset.yaml and CSV files, or RecBole atomic files; ml-100k names the cached MovieLens 100K"`
	SamplePairs int    `key:"sample_pairs" doc:"explain the records of users drawn by seed until this many pairs are reached; 0 explains all; without explanations all records are used"`
	MinRecords  int    `key:"min_records" doc:"users with fewer rated records are left out (the protocol says 5)"`
	TrainSparse bool   `key:"train_sparse" doc:"records of users with fewer than min_records serve for training, though nobody is judged on those users"`
	MaxRecords  int    `key:"max_records" doc:"users with more rated records are not drawn into the sample, so that it holds more users; 0 sets no limit"`
}

// LM describes the embedded language model. Dir, when set, is a Hugging Face folder that replaces the warmed-up one.
type LM struct {
	Dir           string  `key:"dir" doc:"Hugging Face folder of a model to serve; empty warms up a small model on the training records"`
	Family        string  `key:"family" doc:"architecture of the warmed-up model: gpt2, or qwen2 or llama, on which vLLM serves adapters too; a llama does not begin with a model that copies"`
	Layers        int     `key:"layers" doc:"transformer blocks of the warmed-up model"`
	Hidden        int     `key:"hidden" doc:"width of the warmed-up model"`
	Heads         int     `key:"heads" doc:"attention heads of the warmed-up model"`
	Vocabulary    int     `key:"vocabulary" doc:"tokens of the byte-level BPE trained on the training records"`
	Context       int     `key:"context" doc:"longest prompt plus answer, tokens"`
	WarmupSteps   int     `key:"warmup_steps" doc:"supervised steps on best-three and worst-three sentences"`
	WarmupBatch   int     `key:"warmup_batch" doc:"sentences per warm-up step"`
	WarmupRate    float64 `key:"warmup_rate" doc:"peak learning rate of the warm-up"`
	WarmupSamples int     `key:"warmup_samples" doc:"training records whose sentences the warm-up sees"`
	Threads       int     `key:"threads" doc:"cores that the embedded model uses; 0 uses all"`
	Device        string  `key:"device" doc:"where the embedded model computes: cpu, cuda or cuda:N (a libtorch with CUDA)"`
	DType         string  `key:"dtype" doc:"its weights in memory: float32, or bfloat16 on a GPU"`
	KVMemory      int     `key:"kv_memory" doc:"MiB for its keys and values; only what is used is taken on a CPU"`
	Checkpoint    bool    `key:"checkpoint_activations" doc:"training computes its layers again for the gradient: a third slower, the memory of one layer"`
}

// Endpoint is one inference server.
type Endpoint struct {
	URL    string `key:"url" doc:"base URL, as http://host:8000"`
	KeyEnv string `key:"key_env" doc:"name of the environment variable that holds the API key"`
	Kind   string `key:"kind" doc:"vllm (also any server that speaks its API), the default, or tgi"`

	Adapters  []string `key:"adapters" doc:"tgi: the adapters that the server was started with"`
	Chat      bool     `key:"chat" doc:"tgi: put texts through the server's chat template"`
	Tokenizer string   `key:"tokenizer" doc:"tokenizer.json of the served model: dry runs count tokens by it, tgi needs it to score texts"`
}

// Inference says who writes the explanations. Without endpoints the embedded server does.
type Inference struct {
	Endpoints   []Endpoint    `key:"endpoints" doc:"inference servers speaking vLLM's API; empty starts the embedded one"`
	Model       string        `key:"model" doc:"served model name"`
	Concurrency int           `key:"concurrency" doc:"requests in flight"`
	MaxTokens   int           `key:"max_tokens" doc:"longest explanation, tokens"`
	SoftPrompts bool          `key:"soft_prompts" doc:"send user embeddings as soft prompts (the server must accept prompt_embeds)"`
	Timeout     time.Duration `key:"timeout" doc:"longest wait for one answer"`
	CacheSize   int           `key:"cache_size" doc:"repeated prompts answered from memory"`
	RequestRate float64       `key:"request_rate" doc:"requests per second over all servers, at most; 0 sets no cap"`
	TokenRate   float64       `key:"token_rate" doc:"tokens per second over all servers, at most, prompts estimated; 0 sets no cap"`
	PricePrompt float64       `key:"price_prompt" doc:"price of a million tokens of prompts, in any currency, for estimates"`
	PriceAnswer float64       `key:"price_answer" doc:"price of a million tokens of answers"`
}

// Training says who trains the adapter. Without a URL the embedded server does; frozen leaves the language model as it is.
type Training struct {
	URL    string `key:"url" doc:"adapter-training server (Tinker REST API); empty uses the embedded one"`
	KeyEnv string `key:"key_env" doc:"name of the environment variable that holds the API key"`
	Model  string `key:"model" doc:"base model name at the training server; empty takes inference.model"`
	Frozen bool   `key:"frozen" doc:"keep the language model as it is: no policy steps"`
	Rank   int    `key:"rank" doc:"LoRA rank"`
}

// Publish says where adapter versions are written and where the inference servers see them.
type Publish struct {
	LocalDir  string `key:"local_dir" doc:"folder this machine writes adapter versions to; empty is adapters/ in the run directory"`
	ServerDir string `key:"server_dir" doc:"the same folder as the inference servers see it; empty is local_dir"`
}

// Prompts says what the language model is told.
type Prompts struct {
	History     int    `key:"history" doc:"past items in a prompt, at most"`
	Terms       int    `key:"terms" doc:"terms of the candidate with their verdicts, at most"`
	TokenBudget int    `key:"token_budget" doc:"longest prompt, tokens"`
	Source      string `key:"source" doc:"what the terms are: auto, metadata (categories, decades), reviews (nouns that reviews use) or aspects (what reviews say an opinion of)"`
	Taste       bool   `key:"taste" doc:"tell the user's taste per term of the candidate"`
	Opinions    bool   `key:"opinions" doc:"tell other reviewers' opinion per term of the candidate"`
	Redact      bool   `key:"redact" doc:"leave out what comes from reviews (mined terms, opinions of others) and what reaches a person (addresses, numbers, user ids)"`
}

// Profiles says whether the language model describes the items before it explains. Items without a profile of their own are described by what
// reviewers speak of either way.
type Profiles struct {
	Augment bool `key:"augment" doc:"have the served model write a profile of each item, from its fields and the terms that reviewers speak of; prompts show it in place of the item's own"`
	Force   bool `key:"force" doc:"let the small warmed-up model write them too, which has learned explanations only"`
}

// Policy holds the PPO settings. The paper gives none; these are our choices.
type Policy struct {
	Path           string  `key:"path" doc:"how what is learned reaches the inference servers: lora (adapters are loaded), soft_prompt (the model stays, the users' rows are trained), merged (checkpoints for you to serve), or auto: lora, else soft_prompt"`
	Rounds         int     `key:"rounds" doc:"alternations of policy and recommender (K)"`
	Steps          int     `key:"steps" doc:"PPO steps per round (S)"`
	Pairs          int     `key:"pairs" doc:"(user, item) pairs per PPO step"`
	Group          int     `key:"group" doc:"alternatives sampled per pair"`
	Credit         string  `key:"credit" doc:"pair: both sentences get the reward of their pair; crossed: each its mean over all partners; side: each what it alone brought"`
	Epochs         int     `key:"epochs" doc:"passes over a step's samples"`
	Minibatch      int     `key:"minibatch" doc:"sentences per optimizer step"`
	LearningRate   float64 `key:"learning_rate" doc:"AdamW rate of the adapter"`
	ProjectionRate float64 `key:"projection_rate" doc:"Adam rate of the soft-prompt projection; 0 keeps it frozen"`
	Clip           float64 `key:"clip" doc:"PPO clip range ε"`
	KL             float64 `key:"kl" doc:"weight β of the per-token KL to the reference at the start"`
	KLTarget       float64 `key:"kl_target" doc:"KL the adaptive weight aims at, nats per sentence"`
	FormatPenalty  float64 `key:"format_penalty" doc:"subtracted from the advantage of a sentence that breaks the format"`
	Temperature    float64 `key:"temperature" doc:"sampling temperature of the alternatives"`
	Validation     int     `key:"validation" doc:"validation pairs whose mean reward is followed over the rounds"`
	MaxRejected    float64 `key:"max_rejected" doc:"alarm that ends the run: a step with a larger share of texts without a usable sentence; 0 sets no limit"`
	MaxKL          float64 `key:"max_kl" doc:"alarm that ends the run: a step further from the reference, nats per sentence; 0 sets no limit"`
	MaxSamplerGap  float64 `key:"max_sampler_gap" doc:"alarm: sampler and trainer further apart, mean of nats per token; 0 sets no limit"`
	MinEntropy     float64 `key:"min_entropy" doc:"alarm: less entropy of the samples, nats per token; 0 sets no limit"`
	MinUnique      float64 `key:"min_unique" doc:"alarm: a smaller share of distinct sentences; 0 sets no limit"`
	MinDistinct    float64 `key:"min_distinct" doc:"alarm: a smaller share of distinct pairs of neighbouring words (distinct-2); 0 sets no limit"`
}

// Recommender holds the network's settings.
type Recommender struct {
	Loss        string  `key:"loss" doc:"mse on the rating, or bce on the label"`
	Dim         int     `key:"dim" doc:"width of the six tokens"`
	LR          float64 `key:"learning_rate" doc:"AdamW rate; 0 chooses by the size of the data"`
	LRDecay     float64 `key:"learning_rate_decay" doc:"factor of the rate from epoch to epoch"`
	WeightDecay float64 `key:"weight_decay" doc:"weight decay of all but the id tables"`
	IDL2        float64 `key:"id_l2" doc:"penalty on the mean squared norm of the embeddings of users and items"`
	Dropout     float64 `key:"dropout" doc:"dropout of the hidden layers"`
	InputDrop   float64 `key:"input_dropout" doc:"dropout of features and explanation vectors"`
	History     int     `key:"history" doc:"latest items of the user that the sequence block reads"`
	Batch       int     `key:"batch" doc:"records per step; 0 chooses by the size of the data"`
	Epochs      int     `key:"epochs" doc:"epochs at most"`
	Patience    int     `key:"patience" doc:"epochs without a gain on validation before stopping"`
	Seeds       int     `key:"seeds" doc:"networks trained per compared system; their mean and standard error are reported"`
	Folds       int     `key:"folds" doc:"folds of the cross-fitted network that computes rewards"`
	Consumer    bool    `key:"consumer" doc:"feed the user's embedding; this and the next four are switched off for ablations"`
	Product     bool    `key:"product" doc:"feed the item's embedding"`
	Sequence    bool    `key:"sequence" doc:"feed the user's latest items and ratings"`
	Context     bool    `key:"context" doc:"feed the statistics of the context"`
	Text        bool    `key:"text" doc:"feed the item's own text and what reviews by the user and of the item say"`
}

// Encoder says what turns sentences into vectors.
type Encoder struct {
	Dir      string `key:"dir" doc:"folder with a BERT or DistilBERT (config.json, model.safetensors, tokenizer.json); empty is the cached MiniLM"`
	Device   string `key:"device" doc:"where the encoder computes: cpu, cuda or cuda:N (a libtorch with CUDA)"`
	Endpoint string `key:"endpoint" doc:"base URL of a server with OpenAI's embeddings route, in place of a folder"`
	Model    string `key:"model" doc:"model name at the endpoint"`
	KeyEnv   string `key:"key_env" doc:"name of the environment variable that holds the endpoint's API key"`
	Batch    int    `key:"batch" doc:"sentences of one request to the endpoint"`
}

// Evaluate says how rankings are measured: liked test records are to be found among items that their user has no record of.
type Evaluate struct {
	Ranking   string `key:"ranking" doc:"on, or off to leave rankings out of the report"`
	Users     int    `key:"users" doc:"users drawn by seed whose liked test records are ranked, at most; 0 takes all"`
	Positives int    `key:"positives" doc:"liked test records of a user, at most, each in a list of its own; 0 takes all"`
	Negatives int    `key:"negatives" doc:"other items of a list, drawn once per split and kept in candidates.jsonl"`
	Cutoffs   string `key:"cutoffs" doc:"the k of NDCG@k and Recall@k, with commas between"`
	Explained int    `key:"explained_lists" doc:"lists that the network with fixed sentences ranks, at most, for each item needs two; 0 takes all"`
}

// Serve says what is shown of a finished run.
type Serve struct {
	HideUnfaithful bool `key:"hide_unfaithful" doc:"leave out explanations that recpie audit found to do nothing or the contrary of what they say"`
}

// Lasting returns the settings without those that may change while a run or a batch goes on: prices, where and on how many cores things are computed, and what is shown of a
// finished run.
func (c Config) Lasting() Config {
	d := Default()
	c.Inference.PricePrompt, c.Inference.PriceAnswer = 0, 0
	c.LM.Device, c.LM.Threads, c.LM.KVMemory, c.LM.Checkpoint = d.LM.Device, d.LM.Threads, d.LM.KVMemory, d.LM.Checkpoint
	c.Encoder.Device, c.Encoder.Batch = d.Encoder.Device, d.Encoder.Batch
	c.Serve = d.Serve
	return c
}

// Default returns the settings of a full embedded run.
func Default() Config {
	return Config{
		Preset: "embedded", Run: "runs/run", Seed: 1, Explanations: "on",
		Data:      Data{Path: "ml-100k", SamplePairs: 2500, MinRecords: 5},
		LM:        LM{Family: "gpt2", Layers: 3, Hidden: 192, Heads: 6, Vocabulary: 2048, Context: 512, WarmupSteps: 200, WarmupBatch: 16, WarmupRate: 1.5e-3, WarmupSamples: 4000, Device: "cpu", DType: "float32", KVMemory: 1024},
		Inference: Inference{Model: "recpie-embedded", Concurrency: 256, MaxTokens: 48, SoftPrompts: true, Timeout: 2 * time.Minute, CacheSize: 4096},
		Training:  Training{Rank: 16},
		Prompts:   Prompts{History: 4, Terms: 8, TokenBudget: 384, Source: "auto", Taste: true, Opinions: true},
		Policy: Policy{Path: "auto", Rounds: 2, Steps: 12, Pairs: 8, Group: 4, Credit: "crossed", Epochs: 1, Minibatch: 32, LearningRate: 1e-4, ProjectionRate: 1e-3,
			Clip: 0.2, KL: 0.05, KLTarget: 3, FormatPenalty: 0.5, Temperature: 1, Validation: 256,
			MaxRejected: 0.5, MaxKL: 30, MaxSamplerGap: 0.05, MinEntropy: 0.02, MinUnique: 0.05, MinDistinct: 0.01},
		Recommender: Recommender{Loss: "mse", Dim: 32, LRDecay: 0.7, WeightDecay: 1e-3, IDL2: 1, Dropout: 0.3, InputDrop: 0.1, History: 20, Epochs: 20, Patience: 4, Seeds: 3, Folds: 2,
			Consumer: true, Product: true, Sequence: true, Context: true, Text: true},
		Encoder:  Encoder{Device: "cpu", Batch: 64},
		Evaluate: Evaluate{Ranking: "on", Users: 500, Positives: 2, Negatives: 100, Cutoffs: "5,10", Explained: 25},
	}
}
