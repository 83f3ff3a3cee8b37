package batchfile

import (
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// A row group is written out at whichever bound is met first: it is what the writer holds in memory.
const (
	groupRows  = 100_000
	groupBytes = 16 << 20
)

// parquetSink writes records in bounded row groups, compressed with zstd.
type parquetSink[T interface{ size() int }] struct {
	w     *parquet.GenericWriter[T]
	batch []T
	rows  int // of the open row group, batch included
	bytes int
}

func newParquetSink[T interface{ size() int }](w io.Writer) *parquetSink[T] {
	return &parquetSink[T]{
		// Pages without a version, date or machine: the same rows make the same bytes.
		w:     parquet.NewGenericWriter[T](w, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("recpie", "1", "")),
		batch: make([]T, 0, 256),
	}
}

func (s *parquetSink[T]) put(v T) error {
	s.batch = append(s.batch, v)
	s.rows++
	s.bytes += v.size()
	full := s.rows >= groupRows || s.bytes >= groupBytes
	if len(s.batch) == cap(s.batch) || full {
		if err := s.spill(); err != nil {
			return err
		}
	}
	if full {
		s.rows, s.bytes = 0, 0
		if err := s.w.Flush(); err != nil {
			return fmt.Errorf("batchfile: %w", err)
		}
	}
	return nil
}

func (s *parquetSink[T]) spill() error {
	_, err := s.w.Write(s.batch)
	clear(s.batch)
	s.batch = s.batch[:0]
	if err != nil {
		return fmt.Errorf("batchfile: %w", err)
	}
	return nil
}

func (s *parquetSink[T]) close() error {
	if err := s.spill(); err != nil {
		return err
	}
	if err := s.w.Close(); err != nil {
		return fmt.Errorf("batchfile: %w", err)
	}
	return nil
}
