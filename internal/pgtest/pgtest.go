// Package pgtest gives tests databases of their own on a real PostgreSQL server.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var databases atomic.Int64

// Fresh makes an empty database on the server that RECPIE_TEST_POSTGRES names, and returns its address; without one the test is skipped.
// The database goes when the test ends. scripts/peers/postgres.sh starts a server.
func Fresh(t testing.TB) string {
	t.Helper()
	dsn := os.Getenv("RECPIE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("set RECPIE_TEST_POSTGRES, or run scripts/peers/postgres.sh")
	}
	name := fmt.Sprintf("test_%d_%d", time.Now().UnixNano(), databases.Add(1))
	admin := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	admin("CREATE DATABASE " + name)
	t.Cleanup(func() { admin("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
