package queue

import (
	"context"

	"github.com/riverqueue/river"
	"riverqueue.com/riverui"

	"recpie/internal/fault"
)

// UI returns River's web interface over the jobs, to be mounted under prefix ("" for the root), until ctx ends. It asks nobody for
// a password: wrap it.
func (db *DB) UI(ctx context.Context, prefix string) (*riverui.Handler, error) {
	const op = "queue: web interface"
	c, err := db.b.client(&river.Config{Logger: silent})
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	h, err := riverui.NewHandler(&riverui.HandlerOpts{Endpoints: c.endpoints(), Logger: silent, Prefix: prefix})
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	return h, fault.New(fault.Fatal, op, h.Start(ctx))
}
