// Package scripts holds the tests of the shell scripts beside it.
package scripts
