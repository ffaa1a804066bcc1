// Package cli is the command line of freshet: one file for each command.
//
// Whatever a command may touch of the process it runs in (arguments,
// environment, standard streams, clock, signals, terminal) comes in a Process,
// so that tests run whole commands in their own process. Errors travel up
// with their errkind; Main prints them and turns them into an exit code, here
// and nowhere else.
package cli
