package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"recpie/clients/transport"
	"recpie/config"
)

// leaving is the warning to give before anything is sent to a host that is not private: which host, and what goes there. It is "" when
// nothing leaves. soft tells that soft prompts are sent.
func leaving(ctx context.Context, c *config.Config, soft bool, resolver transport.Resolver) string {
	return leavingTo(publicHosts(ctx, c, resolver), c, soft)
}

// publicHosts are those of the settings that are not private.
func publicHosts(ctx context.Context, c *config.Config, resolver transport.Resolver) (hosts []string) {
	add := func(address string) {
		for _, h := range transport.Public(ctx, address, resolver) {
			if !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
	}
	for _, e := range c.Inference.Endpoints {
		add(e.URL)
	}
	if c.Training.URL != "" && !c.Training.Frozen {
		add(c.Training.URL)
	}
	return hosts
}

func leavingTo(hosts []string, c *config.Config, soft bool) string {
	if len(hosts) == 0 {
		return ""
	}
	what := []string{"titles and ratings of users' histories"}
	if c.Prompts.Taste {
		what = append(what, "their taste")
	}
	if !c.Prompts.Redact {
		what = append(what, "words out of reviews")
		if c.Prompts.Opinions {
			what = append(what, "opinions of other reviewers")
		}
	}
	if soft {
		what = append(what, "embeddings of users")
	}
	text := fmt.Sprintf("warning: %s is not in a private network, and prompts go there: %s.", strings.Join(hosts, ", "), strings.Join(what, ", "))
	if c.Prompts.Redact {
		return text + " Reviews, addresses and ids are left out (prompts.redact)."
	}
	return text + " --redact (prompts.redact: true) leaves out what comes from reviews, and addresses and ids in texts of items."
}

// encoderLeaving is the warning before sentences are sent to an embeddings endpoint that is not private, "" when it is.
func encoderLeaving(ctx context.Context, c *config.Config, resolver transport.Resolver) string {
	hosts := transport.Public(ctx, c.Encoder.Endpoint, resolver)
	if len(hosts) == 0 {
		return ""
	}
	return fmt.Sprintf("warning: %s is not in a private network, and the explanations go there to be embedded: sentences about users' tastes.", strings.Join(hosts, ", "))
}

// leaving is the warning of a task; version tells that a version of the policy writes.
func (t *task) leaving(ctx context.Context, version bool) string {
	if t.reqs == nil {
		return leaving(ctx, t.c, version && t.c.Inference.SoftPrompts, nil)
	}
	if hosts := publicHosts(ctx, t.c, nil); len(hosts) > 0 {
		return fmt.Sprintf("warning: %s is not in a private network, and the requests go there as they are written.", strings.Join(hosts, ", "))
	}
	return ""
}

// warnLeaving gives the warning: as a line for people, or as one of JSON beside the counts of --progress json.
func (f *explaining) warnLeaving(ctx context.Context, w io.Writer, t *task) {
	text := t.leaving(ctx, t.version != nil)
	switch {
	case text == "":
	case f.progress == "json":
		_ = json.NewEncoder(w).Encode(map[string]string{"warning": text})
	default:
		fmt.Fprintln(w, text)
	}
}
