package audit

// HTML renders the summary.
func (s *Summary) HTML() ([]byte, error) { return nil, nil }
