package queue

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"riverqueue.com/riverui"
	"riverqueue.com/riverui/uiendpoints"
)

// backend is what differs between the two databases.
type backend interface {
	words() dialect
	// reader is for reading outside of transactions.
	reader() session
	// update runs fn in a transaction. Inside, fn must use its session alone.
	update(ctx context.Context, fn func(session) error) error
	// insert stores the rows of a chunk.
	insert(ctx context.Context, s session, batch, chunk int64, rows []Input, results []Result) error
	// index adds pairs of an identity's hash and a row's key, sorted, to the identity index. A hash that is there stays.
	index(ctx context.Context, pairs [][2]int64) error
	// alone runs fn unless another process is at the same work, named by key; it tells whether fn ran.
	alone(ctx context.Context, key int64, fn func() error) (bool, error)
	// register makes this process known as alive under its name until release is called. lost is closed when the others may
	// think it dead.
	register(ctx context.Context, name string) (lost <-chan struct{}, release func(), err error)
	// dead tells whether the process called name is gone. It is asked inside a transaction and holds until that ends.
	dead(ctx context.Context, s session, name string) (bool, error)
	client(c *river.Config) (client, error)
	// forget overwrites copies of deleted rows that the database keeps beside its tables.
	forget(ctx context.Context) error
	close() error
}

// client is a River client without the type parameter for its transactions.
type client interface {
	start(ctx context.Context) error
	stop(ctx context.Context) error
	cancel(ctx context.Context) error
	enqueue(ctx context.Context, s session, jobs []river.InsertManyParams) error
	endpoints() uiendpoints.Bundle
}

// chunkArgs are the arguments of a job: which chunk it carries.
type chunkArgs struct {
	Key int64 `json:"chunk"` // of the row in recpie_chunk
}

// Kind names the jobs in River's table.
func (chunkArgs) Kind() string { return jobKind }

const jobKind = "recpie_chunk"

// typedClient is a client whose transactions are of type T.
type typedClient[T any] struct {
	river *river.Client[T]
	tx    func(session) T
}

func newTyped[T any](d riverdriver.Driver[T], c *river.Config, tx func(session) T) (client, error) {
	r, err := river.NewClient(d, c)
	if err != nil {
		return nil, err
	}
	return typedClient[T]{r, tx}, nil
}

func (c typedClient[T]) start(ctx context.Context) error  { return c.river.Start(ctx) }
func (c typedClient[T]) stop(ctx context.Context) error   { return c.river.Stop(ctx) }
func (c typedClient[T]) cancel(ctx context.Context) error { return c.river.StopAndCancel(ctx) }

func (c typedClient[T]) enqueue(ctx context.Context, s session, jobs []river.InsertManyParams) error {
	_, err := c.river.InsertManyFastTx(ctx, c.tx(s), jobs)
	return err
}

func (c typedClient[T]) endpoints() uiendpoints.Bundle { return riverui.NewEndpoints(c.river, nil) }

// broken tells whether a connection was cut.
func broken(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
