// Command drivers uses pgx on a PostgreSQL as an application does. Arguments: the URL, and one with a wrong password.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const poolSize = 4

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, wrong string) error {
	config, err := pgxpool.ParseConfig(fmt.Sprintf("%s&pool_max_conns=%d", url, poolSize))
	if err != nil {
		return err
	}
	config.ConnConfig.BuildContextWatcherHandler = func(connection *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: connection, DeadlineDelay: time.Minute}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	var encrypted bool
	const ofTLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
	if err := pool.QueryRow(ctx, ofTLS).Scan(&encrypted); err != nil {
		return err
	}
	fmt.Println("TLS", encrypted)
	if err := size(ctx, pool); err != nil {
		return err
	}
	if err := together(ctx, pool); err != nil {
		return err
	}
	if err := cancelled(ctx, pool); err != nil {
		return err
	}
	_, err = pgx.Connect(ctx, wrong)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return fmt.Errorf("a wrong password: %w", err)
	}
	fmt.Println(refused)
	return nil
}

// size reads a large result row by row.
func size(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, "select repeat($1, 1000) from generate_series(1, $2)", "x", 8000)
	if err != nil {
		return err
	}
	bytes := 0
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, text := range texts {
		bytes += len(text)
	}
	fmt.Println(len(texts), "rows,", bytes, "bytes")
	return err
}

// together holds every connection of the pool at the same time.
func together(ctx context.Context, pool *pgxpool.Pool) error {
	var all sync.WaitGroup
	all.Add(poolSize)
	pids := make(chan uint32, poolSize)
	failed := make(chan error, poolSize)
	for range poolSize {
		go func() {
			failed <- pool.AcquireFunc(ctx, func(connection *pgxpool.Conn) error {
				pids <- connection.Conn().PgConn().PID()
				all.Done()
				all.Wait()
				return nil
			})
		}()
	}
	different := map[uint32]bool{}
	for range poolSize {
		if err := <-failed; err != nil {
			return err
		}
		different[<-pids] = true
	}
	fmt.Println(len(different), "at the same time")
	return nil
}

// cancelled lets the context of a statement end as soon as it runs.
func cancelled(ctx context.Context, pool *pgxpool.Pool) error {
	const isRunning = "select count(*) from pg_stat_activity where query = $1 and wait_event = 'PgSleep'"
	const sleep = "select pg_sleep(601)"
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Exec(short, sleep)
		ended <- err
	}()
	for running := 0; running == 0; time.Sleep(20 * time.Millisecond) {
		if err := pool.QueryRow(ctx, isRunning, sleep).Scan(&running); err != nil {
			return err
		}
	}
	cancel()
	var refused *pgconn.PgError
	if err := <-ended; !errors.As(err, &refused) {
		return fmt.Errorf("a statement that was cancelled: %w", err)
	}
	fmt.Println(refused)
	return nil
}
