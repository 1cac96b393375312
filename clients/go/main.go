// Asks a running service everything a timeline service asks: see clients/README.md for what it reads and prints.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	withheld "example.org/timeline/gen/withheld/v1"
)

// As gRPC's specification spells them, which Go does not.
var codes = map[string]string{
	"DeadlineExceeded": "DEADLINE_EXCEEDED", "FailedPrecondition": "FAILED_PRECONDITION",
	"InvalidArgument": "INVALID_ARGUMENT", "Unavailable": "UNAVAILABLE",
}

func words(v Verdict) string {
	var said string
	switch v.Answer {
	case Unknown:
		code, ok := codes[v.Problem.Code]
		if !ok {
			code = v.Problem.Code
		}
		return strings.TrimSpace(strings.Join(append([]string{"UNKNOWN", code, v.Problem.Reason}, v.Problem.BadFields...), " "))
	case Visible:
		said = "visible"
	case Withheld:
		said = "withheld " + v.NoticeKey
	}
	fresh := "stale"
	if v.Freshness.GetLiveness() == withheld.Liveness_LIVENESS_LIVE {
		fresh = "live"
	}
	said += fmt.Sprintf(", revision %d %s", v.Freshness.GetRevision(), fresh)
	if v.CountryUnknown {
		said += ", country unknown"
	}
	return said
}

// False if there is no verdict on something.
func tour(client *Client, country string, ids []uint64, atLeast uint64) bool {
	ctx, answered := context.Background(), true
	for _, id := range ids {
		verdict := client.Check(ctx, country, id, atLeast)
		answered = answered && verdict.Answer != Unknown
		fmt.Printf("check %s %d: %s\n", country, id, words(verdict))
	}
	for i, verdict := range client.BatchCheck(ctx, country, ids, atLeast) {
		answered = answered && verdict.Answer != Unknown
		fmt.Printf("batch %s %d: %s\n", country, ids[i], words(verdict))
	}
	if !answered {
		return false
	}
	for _, id := range ids {
		fmt.Printf("check nowhere %d: %s\n", id, words(client.Check(ctx, "", id, atLeast)))
	}
	lists, err := client.WithheldCountries(ctx, ids, atLeast)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	for i, codes := range lists {
		fmt.Println(strings.TrimSpace(fmt.Sprintf("countries %d: %s", ids[i], strings.Join(codes, " "))))
	}
	fmt.Printf("check Atlantis %d: %s\n", ids[0], words(client.Check(ctx, "Atlantis", ids[0], 0)))
	return true
}

func watch(client *Client, position string, until uint64) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	take := func(message *withheld.WatchWithholdingsResponse) {
		for _, change := range message.GetChanges() {
			subject := fmt.Sprintf("account_id %d", change.GetAccountId())
			if change.GetPostId() != 0 {
				subject = fmt.Sprintf("post_id %d", change.GetPostId())
			}
			fmt.Println(strings.TrimSpace(fmt.Sprintf("changed %s: %s", subject, strings.Join(change.GetCountryCodes(), " "))))
		}
		fmt.Println("resume at", message.GetResumePosition())
		if message.GetResumeAfterRevision() >= until {
			stop()
		}
	}
	client.Watch(ctx, position, take, func() { fmt.Println("forget everything") })
}

func number(text string) uint64 {
	// 64 bits, and no sign.
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return n
}

func milliseconds(name string) time.Duration {
	return time.Duration(number(os.Getenv(name))) * time.Millisecond
}

func main() {
	serviceConfig, err := os.ReadFile(os.Getenv("SERVICE_CONFIG"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	endpoints := strings.Split(os.Getenv("ENDPOINTS"), ",")
	client, err := DialList(endpoints, string(serviceConfig), milliseconds("DEADLINE_MS"), milliseconds("MAX_STALENESS_MS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer client.Close()
	if os.Args[1] == "watch" {
		watch(client, os.Args[2], number(os.Args[3]))
		return
	}
	ids := make([]uint64, 0, len(os.Args))
	for _, id := range os.Args[3:] {
		ids = append(ids, number(id))
	}
	if !tour(client, os.Args[2], ids, number(os.Getenv("AT_LEAST_REVISION"))) {
		os.Exit(3)
	}
}
