package evaluate

// Evaluation is what a report says beyond the mean error of each system: whom it is good for, what its numbers mean, how it orders items.
type Evaluation struct {
	Ranking     *Ranking      `json:"ranking,omitempty"`
	Cohorts     []Cohort      `json:"cohorts,omitempty"`
	Calibration []Calibration `json:"calibration,omitempty"` // of the seeds' pooled predictions
}
