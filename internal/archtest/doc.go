// Package archtest holds no code: its tests hold the house to its plan, which imports may go where.
package archtest
