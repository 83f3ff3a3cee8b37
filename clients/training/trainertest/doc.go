// Package trainertest holds what every server of the training API must make of our client, or our client of it: a suite that runs over
// the embedded server, over a real SkyRL, and over Fake, a small server that learns and whose deviations from the protocol are switches.
package trainertest
