// Package tinker holds the wire forms of the training API (the Tinker REST contract, SDK 0.25 to 0.38): the JSON of every call this
// house makes or serves, the generated protobuf of the three binary payloads (tinkerpb), and the packing of tensors into them.
// The extension prompt_embeds.v1 stays inside the schema: soft rows travel as a further loss input, their gradients as a further output field.
package tinker

// Paths of the calls, below the base URL.
const (
	PathClientConfig     = "/api/v1/client/config"
	PathDynamicConfig    = "/api/v1/client/dynamic_config"
	PathHealth           = "/api/v1/healthz"
	PathCapabilities     = "/api/v1/get_server_capabilities"
	PathCreateSession    = "/api/v1/create_session"
	PathHeartbeat        = "/api/v1/session_heartbeat"
	PathSessions         = "/api/v1/sessions" // + /{id}/finish
	PathTelemetry        = "/api/v1/telemetry"
	PathCreateModel      = "/api/v1/create_model"
	PathGetInfo          = "/api/v1/get_info"
	PathUnloadModel      = "/api/v1/unload_model"
	PathForwardBackward  = "/api/v1/forward_backward"
	PathOptimStep        = "/api/v1/optim_step"
	PathSaveWeights      = "/api/v1/save_weights"
	PathSaveForSampler   = "/api/v1/save_weights_for_sampler"
	PathLoadWeights      = "/api/v1/load_weights"
	PathWeightsInfo      = "/api/v1/weights_info"
	PathRetrieveFuture   = "/api/v1/retrieve_future"
	PathRetrieveFutures  = "/api/v1/retrieve_futures"
	PathCancelFuture     = "/api/v1/cancel_future"
	PathCheckpoints      = "/api/v1/checkpoints"
	PathTrainingRuns     = "/api/v1/training_runs" // + /{model}/checkpoints/{checkpoint}/archive
	PathSamplingSession  = "/api/v1/create_sampling_session"
	PathSample           = "/api/v1/asample"
	HeaderAPIKey         = "X-API-Key"
	ProtobufType         = "application/x-protobuf"
	ExtensionPromptEmbed = "prompt_embeds.v1" // in Capabilities.Extensions
)

// Names of the loss functions this house uses.
const (
	LossCrossEntropy       = "cross_entropy"
	LossImportanceSampling = "importance_sampling"
	LossPPO                = "ppo"
	LossCISPO              = "cispo"
	LossDRO                = "dro"
)

// Names of loss inputs. All have shape (N,), N the number of input tokens, except the two of prompt_embeds.v1.
const (
	InputTargets         = "target_tokens"           // int64
	InputWeights         = "weights"                 // float32
	InputLogprobs        = "logprobs"                // float32, the sampler's
	InputAdvantages      = "advantages"              // float32
	InputEmbeds          = "prompt_embeds"           // float32 [k, hidden]
	InputEmbedsPositions = "prompt_embeds_positions" // int64 [k]
)

// Names of output fields and of the one metric every server must send.
const (
	OutputLogprobs    = "logprobs"
	OutputEmbedsGrad  = "prompt_embeds_grad" // float32, trailing shape [hidden]: d(loss:sum)/d(embeds)
	OutputArrayRecord = "ArrayRecord"
	MetricLossSum     = "loss:sum"
	ConfigClipLow     = "clip_low_threshold"  // ppo: ratio bound, 0.8
	ConfigClipHigh    = "clip_high_threshold" // ppo: ratio bound, 1.2
	ConfigFreeze      = "freeze_adapter"      // 1: no gradient for the adapter, the soft rows alone
)
