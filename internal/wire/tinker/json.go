package tinker

import "encoding/json"

// CreateSessionRequest opens a session; everything a client makes belongs to one.
type CreateSessionRequest struct {
	Tags         []string          `json:"tags"`
	UserMetadata map[string]string `json:"user_metadata"`
	SDKVersion   string            `json:"sdk_version"`
	Type         string            `json:"type"` // create_session
}

// CreateSessionResponse names the session. The messages are for logs.
type CreateSessionResponse struct {
	Type           string `json:"type"`
	SessionID      string `json:"session_id"`
	InfoMessage    string `json:"info_message,omitempty"`
	WarningMessage string `json:"warning_message,omitempty"`
	ErrorMessage   string `json:"error_message,omitempty"`
}

// HeartbeatRequest keeps a session alive; it is due every 10 s. The answer repeats the type; 410 says that the session has finished.
type HeartbeatRequest struct {
	SessionID string `json:"session_id"`
	Type      string `json:"type"` // session_heartbeat
}

// FinishSessionRequest ends a session: success, errored or interrupted.
type FinishSessionRequest struct {
	Reason FinishReason `json:"reason"`
}

// FinishReason says how a session ended.
type FinishReason struct {
	Type string `json:"type"`
}

// ClientConfigRequest is the body of the two configuration calls; an empty object is a valid answer.
type ClientConfigRequest struct {
	SDKVersion string `json:"sdk_version"`
}

// ClientConfig holds the answered flags that matter to this house.
type ClientConfig struct {
	CreateViaLoad bool `json:"create_model_via_load_weights,omitempty"`
	JWTAuth       bool `json:"pjwt_auth_enabled,omitempty"`
	ParallelChunk bool `json:"parallel_fwdbwd_chunks"`
}

// Capabilities is the answer of get_server_capabilities.
type Capabilities struct {
	SupportedModels []SupportedModel `json:"supported_models"`
	Extensions      []string         `json:"extensions,omitempty"`
}

// SupportedModel is a base model that can be trained or sampled.
type SupportedModel struct {
	ModelName        string `json:"model_name"`
	MaxContextLength int    `json:"max_context_length,omitempty"`
	Trainable        bool   `json:"trainable"`
	Sampleable       bool   `json:"sampleable"`
}

// LoRAConfig shapes a new adapter. The scale is 32/rank; A is random by seed (nil: any), B zero.
type LoRAConfig struct {
	Rank         int    `json:"rank"`
	Seed         *int64 `json:"seed,omitempty"`
	TrainUnembed bool   `json:"train_unembed"`
	TrainMLP     bool   `json:"train_mlp"`
	TrainAttn    bool   `json:"train_attn"`
}

// OptimizerConfig names the optimizer of a model; adamw is the only one here.
type OptimizerConfig struct {
	Type string `json:"type"`
}

// CreateModelRequest makes an adapter. ModelSeq counts the models of the session from 0; the model id is "{session}:train:{seq}".
type CreateModelRequest struct {
	SessionID       string            `json:"session_id"`
	ModelSeq        int               `json:"model_seq_id"`
	BaseModel       string            `json:"base_model"`
	UserMetadata    map[string]string `json:"user_metadata,omitempty"`
	LoRA            *LoRAConfig       `json:"lora_config,omitempty"`
	OptimizerConfig *OptimizerConfig  `json:"optimizer_config,omitempty"`
	Type            string            `json:"type"` // create_model
}

// CreateModelResult resolves create_model's future.
type CreateModelResult struct {
	ModelID string `json:"model_id"`
	Type    string `json:"type"`
}

// ModelRequest is the body of get_info and unload_model.
type ModelRequest struct {
	ModelID string `json:"model_id"`
	Type    string `json:"type"` // get_info, unload_model
}

// Info is the answer of get_info.
type Info struct {
	ModelID   string    `json:"model_id"`
	ModelData ModelData `json:"model_data"`
	IsLoRA    bool      `json:"is_lora,omitempty"`
	LoRARank  int       `json:"lora_rank,omitempty"`
	ModelName string    `json:"model_name,omitempty"`
}

// ModelData describes the base model. The last three fields are ours: TokenEmbeddingNorm is the mean row norm of the token
// embeddings, to which a soft prompt is scaled.
type ModelData struct {
	ModelName          string  `json:"model_name,omitempty"`
	TokenizerID        string  `json:"tokenizer_id,omitempty"`
	Arch               string  `json:"arch,omitempty"`
	HiddenSize         int     `json:"hidden_size,omitempty"`
	VocabSize          int     `json:"vocab_size,omitempty"`
	TokenEmbeddingNorm float64 `json:"token_embedding_norm,omitempty"`
}

// AdamParams are the hyper-parameters of one optim_step; all are always sent.
type AdamParams struct {
	LearningRate float64 `json:"learning_rate"`
	Beta1        float64 `json:"beta1"`
	Beta2        float64 `json:"beta2"`
	Eps          float64 `json:"eps"`
	WeightDecay  float64 `json:"weight_decay"`
	GradClipNorm float64 `json:"grad_clip_norm"` // <= 0: off
}

// OptimStepRequest applies AdamW to the gradients summed since the last step and zeroes them.
type OptimStepRequest struct {
	ModelID    string     `json:"model_id"`
	SeqID      int32      `json:"seq_id"`
	AdamParams AdamParams `json:"adam_params"`
	Type       string     `json:"type"` // optim_step
}

// OptimStepResult resolves optim_step's future.
type OptimStepResult struct {
	Metrics map[string]float64 `json:"metrics,omitempty"`
}

// SaveWeightsRequest saves weights and optimizer moments (save_weights) or, with Kind, the weights alone for a sampler
// (save_weights_for_sampler, kind snapshot). Path is a bare name.
type SaveWeightsRequest struct {
	ModelID            string `json:"model_id"`
	Path               string `json:"path,omitempty"`
	Kind               string `json:"kind,omitempty"` // snapshot, inflight: save_weights_for_sampler only
	SamplingSessionSeq *int   `json:"sampling_session_seq_id,omitempty"`
	SeqID              int32  `json:"seq_id"`
	TTLSeconds         *int64 `json:"ttl_seconds,omitempty"`
	Overwrite          bool   `json:"overwrite,omitempty"`
	Type               string `json:"type,omitempty"`
}

// SaveWeightsResult resolves both save calls; Path is a tinker:// path.
type SaveWeightsResult struct {
	Path              string `json:"path,omitempty"`
	SamplingSessionID string `json:"sampling_session_id,omitempty"`
	Type              string `json:"type,omitempty"`
}

// LoadWeightsRequest loads a checkpoint: with SessionID and ModelSeq it creates the model from it, with ModelID and SeqID 1 it
// fills a fresh model. Optimizer restores moments and step count.
type LoadWeightsRequest struct {
	SessionID string `json:"session_id,omitempty"`
	ModelSeq  *int   `json:"model_seq_id,omitempty"`
	ModelID   string `json:"model_id,omitempty"`
	SeqID     int32  `json:"seq_id,omitempty"`
	Path      string `json:"path"`
	Optimizer bool   `json:"optimizer"`
	BaseModel string `json:"base_model,omitempty"`
	Type      string `json:"type,omitempty"` // load_weights
}

// LoadWeightsResult resolves load_weights' future; every field is optional.
type LoadWeightsResult struct {
	Path    string `json:"path,omitempty"`
	ModelID string `json:"model_id,omitempty"`
	Type    string `json:"type,omitempty"`
}

// WeightsInfoRequest asks what a checkpoint holds.
type WeightsInfoRequest struct {
	TinkerPath string `json:"tinker_path"`
}

// WeightsInfo answers it.
type WeightsInfo struct {
	BaseModel    string `json:"base_model"`
	IsLoRA       bool   `json:"is_lora"`
	LoRARank     int    `json:"lora_rank"`
	TrainUnembed *bool  `json:"train_unembed,omitempty"`
	TrainMLP     *bool  `json:"train_mlp,omitempty"`
	TrainAttn    *bool  `json:"train_attn,omitempty"`
}

// Future is the immediate answer of every slow call.
type Future struct {
	RequestID         string   `json:"request_id"`
	ModelID           string   `json:"model_id,omitempty"`
	SampleSequenceIDs []string `json:"sample_sequence_ids,omitempty"`
}

// RetrieveRequest polls a future. With AllowMetadataOnly a server may answer that a large result is ready before sending it.
type RetrieveRequest struct {
	RequestID         string `json:"request_id"`
	AllowMetadataOnly bool   `json:"allow_metadata_only"`
}

// FutureState is a JSON answer of retrieve_future that is no result: still running (Type "try_again"), failed (Error not nil),
// or ready but large (Status "complete_metadata"). A result of the other calls has none of these.
type FutureState struct {
	Type             string  `json:"type,omitempty"`
	RequestID        string  `json:"request_id,omitempty"`
	QueueState       string  `json:"queue_state,omitempty"` // active, paused_capacity, paused_rate_limit
	QueueStateReason string  `json:"queue_state_reason,omitempty"`
	Error            *string `json:"error,omitempty"`
	Category         string  `json:"category,omitempty"` // user, server, unknown
	Status           string  `json:"status,omitempty"`
	PayloadSize      int64   `json:"response_payload_size,omitempty"`
}

// The values of FutureState and of error categories.
const (
	TypeTryAgain           = "try_again"
	StatusCompleteMetadata = "complete_metadata"
	CategoryUser           = "user"
	CategoryServer         = "server"
	CategoryUnknown        = "unknown"
)

// ErrorResponse is the body of an HTTP error. Detail is text or, for schema errors, a list.
type ErrorResponse struct {
	Detail json.RawMessage `json:"detail"`
}

// Detail returns the text of an error body, the body itself when it has another form.
func Detail(body []byte) string {
	var e ErrorResponse
	if json.Unmarshal(body, &e) != nil || len(e.Detail) == 0 {
		return string(body)
	}
	var s string
	if json.Unmarshal(e.Detail, &s) == nil {
		return s
	}
	return string(e.Detail)
}

// TrainingRun describes a model for tooling.
type TrainingRun struct {
	TrainingRunID   string `json:"training_run_id"`
	BaseModel       string `json:"base_model"`
	ModelOwner      string `json:"model_owner"`
	IsLoRA          bool   `json:"is_lora"`
	LoRARank        int    `json:"lora_rank,omitempty"`
	Corrupted       bool   `json:"corrupted,omitempty"`
	LastRequestTime string `json:"last_request_time"`

	LastCheckpoint        *Checkpoint       `json:"last_checkpoint,omitempty"`
	LastSamplerCheckpoint *Checkpoint       `json:"last_sampler_checkpoint,omitempty"`
	UserMetadata          map[string]string `json:"user_metadata,omitempty"`
}

// Checkpoints lists what a training run has saved.
type Checkpoints struct {
	Checkpoints []Checkpoint `json:"checkpoints"`
	Cursor      *Cursor      `json:"cursor,omitempty"` // of GET checkpoints alone
}

// Cursor says which part of a list this is.
type Cursor struct {
	Offset     int `json:"offset"`
	Limit      int `json:"limit"`
	TotalCount int `json:"total_count"`
}

// Checkpoint is one saved state: its id is "weights/{name}" or "sampler_weights/{name}".
type Checkpoint struct {
	CheckpointID   string `json:"checkpoint_id"`
	CheckpointType string `json:"checkpoint_type"` // training, sampler
	Time           string `json:"time"`            // RFC 3339
	TinkerPath     string `json:"tinker_path"`

	SizeBytes    int64             `json:"size_bytes,omitempty"`
	Public       bool              `json:"public,omitempty"`
	UserMetadata map[string]string `json:"user_metadata,omitempty"`
	ExpiresAt    string            `json:"expires_at,omitempty"` // RFC 3339, absent without an end
}

// SessionView is what GET sessions/{id} tells.
type SessionView struct {
	TrainingRunIDs []string          `json:"training_run_ids"`
	SamplerIDs     []string          `json:"sampler_ids"`
	UserMetadata   map[string]string `json:"user_metadata,omitempty"`
}

// RetrieveFuturesRequest waits for samples of a sampling session that finished after a cursor.
type RetrieveFuturesRequest struct {
	Target struct {
		Type      string `json:"type"` // sampling_session
		SamplerID string `json:"sampling_session_id"`
	} `json:"target"`
	PrevCursor int      `json:"prev_cursor"`
	Timeout    *float64 `json:"timeout"` // seconds
	Retrieved  []string `json:"retrieved_request_ids"`
}

// RetrieveFuturesResponse lists them.
type RetrieveFuturesResponse struct {
	Completions []Completion `json:"completions"`
	Cursor      int          `json:"cursor"`
}

// Completion is one finished request.
type Completion struct {
	State     string `json:"state"` // finished, failed
	RequestID string `json:"request_id"`
	Size      int    `json:"response_payload_uncompressed_size,omitempty"`
}
