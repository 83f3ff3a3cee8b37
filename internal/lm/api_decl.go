package lm

import (
	"context"
	"errors"
	"time"
)

type Model struct{ Cfg Config }

func (m *Model) EmbeddingNorm() float64 { return 0 }
func (m *Model) NumParameters() int64   { return 0 }
func (m *Model) Close()                 {}

var errDecl = errors.New("lm: declared only")

func NewGPT2(cfg Config, seed int64) (*Model, error) { return nil, errDecl }
func LoadDir(dir string) (*Bundle, error)            { return nil, errDecl }
func (b *Bundle) SaveDir(dir string) error           { return errDecl }

type EngineOptions struct {
	MaxBatch int
	Gather   time.Duration
	Threads  int
}
type Engine struct{}
type AdapterInfo struct {
	Name, Dir string
	Rank      int
}

func NewEngine(b *Bundle, o EngineOptions) *Engine { return nil }
func (e *Engine) Close()                           {}
func (e *Engine) Generate(ctx context.Context, r *GenRequest) (*GenResult, error) {
	return nil, errDecl
}
func (e *Engine) LoadAdapter(name, dir string) error { return errDecl }
func (e *Engine) UnloadAdapter(name string) error    { return errDecl }
func (e *Engine) Adapters() []AdapterInfo            { return nil }
func (e *Engine) Stats() Stats                       { return Stats{} }
func (e *Engine) Bundle() *Bundle                    { return nil }

type Trainer struct{}

func NewTrainer(b *Bundle, c LoRAConfig) (*Trainer, error) { return nil, errDecl }
func (t *Trainer) ForwardBackward(ctx context.Context, data []Datum, loss string, cfg map[string]float64, forwardOnly bool) (*PassResult, error) {
	return nil, errDecl
}
func (t *Trainer) OptimStep(p AdamParams) (float64, error) { return 0, errDecl }
func (t *Trainer) Save(dir string, optimizer bool) error   { return errDecl }
func (t *Trainer) Load(dir string, optimizer bool) error   { return errDecl }
func (t *Trainer) Config() LoRAConfig                      { return LoRAConfig{} }
func (t *Trainer) Close()                                  {}

// ReadAdapterConfig reads the LoRAConfig of an adapter folder.
func ReadAdapterConfig(dir string) (LoRAConfig, error) { return LoRAConfig{}, errDecl }

type WarmupOptions struct {
	Steps, Batch int
	LR           float64
	Seed         int64
	Progress     func(step, total int, loss float64)
}

func Warmup(ctx context.Context, b *Bundle, ex []Example, o WarmupOptions) error { return errDecl }
