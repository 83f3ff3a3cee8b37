package evaluate

import (
	"encoding/json"
	"os"
	"path/filepath"

	"recpie/internal/durable"
)

// System is one compared system's test result: means over seeds.
type System struct {
	RMSE    float64 `json:"rmse"`
	RMSESE  float64 `json:"rmse_se"` // standard error over seeds
	MAE     float64 `json:"mae"`
	AUC     float64 `json:"auc"`
	ValRMSE float64 `json:"validation_rmse,omitempty"`
}

// Systems are the compared systems, by the protocol's names. A nil system was not run.
type Systems struct {
	NoExplanations *System  `json:"no_explanations,omitempty"`
	Untrained      *System  `json:"untrained,omitempty"`
	Heuristic      *System  `json:"heuristic,omitempty"`
	Rounds         []System `json:"rounds,omitempty"`
	ShuffledRefit  *System  `json:"shuffled_refit,omitempty"`
	NumbersRefit   *System  `json:"numbers_refit,omitempty"`
	PositiveOnly   *System  `json:"positive_only,omitempty"` // the heuristic's sentences, one side left out
	NegativeOnly   *System  `json:"negative_only,omitempty"`
	Ensemble       *System  `json:"ensemble,omitempty"` // the seeds' predictions without explanations averaged: one system, no standard error
}

// Faithfulness says whether predictions use the text: the network of the selected round, unchanged, on altered explanations.
type Faithfulness struct {
	Blanked         Metrics  `json:"blanked"`
	Shuffled        Metrics  `json:"shuffled"`
	MeanShift       float64  `json:"mean_shift"`                  // mean |ŷ − ŷ blanked|
	UnchangedShare  float64  `json:"unchanged_share"`             // share of records whose prediction moves by less than .001 when blanked
	SoftPromptShare *float64 `json:"soft_prompt_share,omitempty"` // share of greedy explanations that differ when two users' soft prompts are exchanged
}

// Attention holds the mean attention to the two explanation tokens per test record (the paper's eq. 11 and Fig. 6).
type Attention struct {
	HighPos []float64 `json:"high_positive"`
	HighNeg []float64 `json:"high_negative"`
	LowPos  []float64 `json:"low_positive"`
	LowNeg  []float64 `json:"low_negative"`
	HighGap float64   `json:"high_gap"` // mean ᾱ_pos − ᾱ_neg over records with a high rating
	LowGap  float64   `json:"low_gap"`
	P       float64   `json:"p"` // Mann–Whitney, gap of high against gap of low ratings
}

// Example is one test record with its explanations, as a person would read it. Ratings are on the data's own scale.
type Example struct {
	User              string  `json:"user"`
	Item              string  `json:"item"`
	Positive          string  `json:"positive"`
	Negative          string  `json:"negative"`
	Prediction        float64 `json:"prediction"`
	Truth             float64 `json:"truth"`
	AttentionPositive float64 `json:"attention_positive"`
	AttentionNegative float64 `json:"attention_negative"`
}

// Step is one PPO step as the report draws it.
type Step struct {
	Round  int     `json:"round"`
	Step   int     `json:"step"`
	Reward float64 `json:"reward"`
	KL     float64 `json:"kl"`
	Loss   float64 `json:"loss"`
	Broken float64 `json:"broken"` // share of sentences that break the format
}

// PolicyRound is what the sampled texts of one round's PPO steps were like: shares and means over the texts.
type PolicyRound struct {
	Round     int          `json:"round"`
	Steps     int          `json:"steps"`
	Texts     int          `json:"texts"`
	Reward    float64      `json:"reward"`
	RewardSD  float64      `json:"reward_sd"`
	KL1       float64      `json:"kl_k1"` // distance from the reference, nats per text, by the three estimators
	KL2       float64      `json:"kl_k2"`
	KL3       float64      `json:"kl_k3"`
	Valid     float64      `json:"valid"`      // share of texts that hold a usable sentence
	Distinct1 float64      `json:"distinct_1"` // mean over the steps, each over a sample of its texts
	Distinct2 float64      `json:"distinct_2"`
	Unique    float64      `json:"unique"`  // distinct sentences of a step, mean over the steps
	Length    float64      `json:"length"`  // tokens per text
	Longest   int          `json:"longest"` // tokens
	Entropy   float64      `json:"entropy"` // −mean log π, nats per token
	Samples   []PolicyText `json:"samples,omitempty"`
}

// PolicyText is one sampled text of the round's last step.
type PolicyText struct {
	Text   string  `json:"text"`
	Valid  bool    `json:"valid"`
	Reward float64 `json:"reward"`
	Tokens int     `json:"tokens"`
}

// Report is report.json. Its names are the protocol's.
type Report struct {
	Data          string             `json:"data"`
	Sample        string             `json:"sample"` // "sample of N users", or "all users"
	SplitDigest   string             `json:"split_digest"`
	NTrain        int                `json:"n_train"`
	NTest         int                `json:"n_test"`
	Biases        Metrics            `json:"biases"`
	Test          Systems            `json:"test"`
	SelectedRound int                `json:"selected_round"` // 0 is untrained
	Faithfulness  *Faithfulness      `json:"faithfulness,omitempty"`
	Reward        []float64          `json:"reward,omitempty"`    // one mean per round on a fixed set of validation pairs, first = untrained
	RewardSE      []float64          `json:"reward_se,omitempty"` // of the difference to the first entry, clustered by user
	KL            []float64          `json:"kl,omitempty"`
	Seeds         []int64            `json:"seeds"`   // of the networks; the first is the run's
	Timings       map[string]float64 `json:"timings"` // seconds
	Paired        map[string]Paired  `json:"paired,omitempty"`
	Attention     *Attention         `json:"attention,omitempty"`
	Examples      []Example          `json:"examples,omitempty"`
	Steps         []Step             `json:"steps,omitempty"`
	Policy        []PolicyRound      `json:"policy,omitempty"`
	Notes         []string           `json:"notes,omitempty"`
	Evaluation
}

// Write stores report.json and report.html in dir, each whole or absent.
func (r *Report) Write(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	page, err := r.HTML()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, "report.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "report.html"), page, 0o644)
}

// ReadReport reads report.json of a run directory.
func ReadReport(dir string) (*Report, error) {
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// Summarise fills a System from per-seed metrics.
func Summarise(perSeed []Metrics, val []float64) *System {
	rmse := make([]float64, len(perSeed))
	s := &System{}
	for i, m := range perSeed {
		rmse[i] = m.RMSE
		s.MAE += m.MAE / float64(len(perSeed))
		s.AUC += m.AUC / float64(len(perSeed))
	}
	s.RMSE, s.RMSESE = MeanSE(rmse)
	if len(val) > 0 {
		s.ValRMSE, _ = MeanSE(val)
	}
	return s
}
