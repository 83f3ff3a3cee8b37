// Package doctor examines the servers that a run would use and says what is right, what is doubtful and what is missing, each with
// its remedy. It asks as a client does and changes nothing: routes that would change a server are asked for with OPTIONS or GET, which
// servers answer with 405, and the wrong soft prompt that makes a server tell its width is one that it refuses. Only a probe that was
// asked for costs a server more than a few short requests.
package doctor
