// Package queue runs batches of rows through a handler so that each row ends exactly once as a result or as a dead letter,
// whatever dies in between: a worker, the database server, the machine.
//
// A batch is planned into chunks of rows. River dispatches chunks as jobs; our own tables are the truth, so that a lost job is
// only a chunk to be sent again. A chunk's results, its fence (the conditional change of the chunk's row to done) and the
// completion of its job are one transaction. A handler may therefore be called more than once for a row, but only one answer is
// ever stored.
//
// Every row carries the identity of all that determines its result. Finished rows are indexed by it in sorted bulk, and planning
// copies what any batch has already instead of asking for it again.
//
// The database is a SQLite file, for the workers of one process, or a PostgreSQL server, for any number of processes on any number
// of machines. On SQLite a lock beside the file keeps other working processes out, and jobs that a dead process left running are
// put back at the start. On PostgreSQL every process holds an advisory lock while it works; the others try the locks of those
// whose jobs are running, and take over the jobs of the dead within a few seconds.
//
// Failpoints: queue-planned (a group of chunks is stored), queue-dispatched (jobs are inserted), queue-before-commit (rows are
// answered, not stored), queue-in-commit (all is written, not committed), queue-after-commit (stored, River not yet told),
// queue-sealed (a slice of the identity index is written).
package queue
