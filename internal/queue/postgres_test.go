package queue

import (
	"context"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var databases atomic.Int64

// freshPostgres makes an empty database on the server that RECPIE_TEST_POSTGRES names. scripts/peers/postgres.sh starts one.
func freshPostgres(t testing.TB) string {
	t.Helper()
	dsn := os.Getenv("RECPIE_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("set RECPIE_TEST_POSTGRES, or run scripts/peers/postgres.sh")
	}
	name := "queue_" + time.Now().Format("150405") + "_" + strings.ReplaceAll(time.Duration(databases.Add(1)).String(), "ns", "")
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
