package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // without it the healthCheckConfig of the service config does nothing
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	withheld "example.org/timeline/gen/withheld/v1"
)

// [quote: verdict]

// Answer is Unknown unless the service has said otherwise: what to show then is the product's decision.
type Answer int

// Unknown is the zero value, so that a verdict that was never set is none.
const (
	Unknown Answer = iota
	Visible
	Withheld
)

// Verdict on one account.
type Verdict struct {
	Answer         Answer
	NoticeKey      string              // which notice to show, if Withheld
	Freshness      *withheld.Freshness // what was known when it was answered, unless Unknown
	CountryUnknown bool                // the server's policy for unknown viewers decided
	Problem        *Problem            // why it is Unknown
}

// Problem is what an error says.
type Problem struct {
	Code      string   // as Unavailable
	Reason    string   // as TOO_STALE, of withheld.v1.ErrorReason; empty if it is not the service that says so
	BadFields []string // the fields that are wrong
}

func problemOf(err error) *Problem {
	said := status.Convert(err)
	problem := &Problem{Code: said.Code().String()}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			problem.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				problem.BadFields = append(problem.BadFields, violation.GetField())
			}
		}
	}
	return problem
}

// [end]

// [quote: channel]

// Client asks all replicas in turn. One for the whole process.
type Client struct {
	connection   *grpc.ClientConn
	service      withheld.VisibilityServiceClient
	deadline     time.Duration
	maxStaleness time.Duration
}

// Dial takes a target as `dns:///withheld-headless.prod.svc:50051`.
func Dial(target, serviceConfig string, deadline, maxStaleness time.Duration, more ...grpc.DialOption) (*Client, error) {
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // none from DNS
		// A connection that says nothing any more is found out after 15 s, and not when TCP gives up.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		// A replica that is back is used again soon, and not after two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithIdleTimeout(0), // stay connected
	}, more...)
	connection, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, err
	}
	connection.Connect()
	return &Client{connection, withheld.NewVisibilityServiceClient(connection), deadline, maxStaleness}, nil
}

// DialList is for where there is no DNS: HOST:PORT of each replica.
func DialList(endpoints []string, serviceConfig string, deadline, maxStaleness time.Duration) (*Client, error) {
	list := manual.NewBuilderWithScheme("list")
	state := resolver.State{}
	for _, endpoint := range endpoints {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: endpoint})
	}
	list.InitialState(state)
	return Dial("list:///withheld", serviceConfig, deadline, maxStaleness, grpc.WithResolvers(list))
}

// [end]

// [quote: check]

// Check gives the verdict on one account. With atLeastRevision it includes everything up to that revision.
func (c *Client) Check(ctx context.Context, country string, accountID, atLeastRevision uint64) Verdict {
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	response, err := c.service.Check(ctx, &withheld.CheckRequest{
		AccountId:     accountID,
		ViewerCountry: country,
		Consistency:   c.consistency(atLeastRevision),
	})
	if err != nil {
		return Verdict{Problem: problemOf(err)}
	}
	verdict := Verdict{
		Answer:         Visible,
		NoticeKey:      response.GetWithholding().GetNoticeKey(),
		Freshness:      response.GetFreshness(),
		CountryUnknown: response.GetViewerCountryUnknown(),
	}
	if response.GetWithheld() {
		verdict.Answer = Withheld
	}
	return verdict
}

func (c *Client) consistency(atLeastRevision uint64) *withheld.Consistency {
	return &withheld.Consistency{AtLeastRevision: atLeastRevision, MaxStaleness: durationpb.New(c.maxStaleness)}
}

// [end]

// [quote: batch]

// BatchCheck gives a verdict for each account, in the order asked, all from one revision.
func (c *Client) BatchCheck(ctx context.Context, country string, accountIDs []uint64, atLeastRevision uint64) []Verdict {
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	verdicts := make([]Verdict, len(accountIDs)) // all of them Unknown
	response, err := c.service.BatchCheck(ctx, &withheld.BatchCheckRequest{
		AccountIds:    accountIDs,
		ViewerCountry: country,
		Consistency:   c.consistency(atLeastRevision),
	})
	if err != nil {
		for i := range verdicts {
			verdicts[i].Problem = problemOf(err)
		}
		return verdicts
	}
	for i := range verdicts {
		verdicts[i] = Verdict{
			Answer:         Visible,
			Freshness:      response.GetFreshness(),
			CountryUnknown: response.GetViewerCountryUnknown(),
		}
	}
	for _, entry := range response.GetAccounts() {
		verdict := &verdicts[entry.GetIndex()]
		verdict.Answer = Withheld
		verdict.NoticeKey = response.GetWithholdings()[entry.GetWithholding()].GetNoticeKey()
	}
	return verdicts
}

// [end]

// [quote: countries]

// WithheldCountries gives for each account the countries it is withheld in. An error is not an empty list.
func (c *Client) WithheldCountries(ctx context.Context, accountIDs []uint64, atLeastRevision uint64) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	response, err := c.service.ListWithheldCountries(ctx, &withheld.ListWithheldCountriesRequest{
		AccountIds:  accountIDs,
		Consistency: c.consistency(atLeastRevision),
	})
	if err != nil {
		return nil, err
	}
	countries := make([][]string, 0, len(accountIDs))
	for _, subject := range response.GetSubjects() {
		countries = append(countries, subject.GetCountryCodes())
	}
	return countries, nil
}

// [end]

// [quote: watch]

// Watch gives every message to take, until ctx is done: whoever stores its changes stores its position with them, where it
// has one. It calls forget where what was told before may not be so: all of it is told anew.
func (c *Client) Watch(ctx context.Context, position string, take func(*withheld.WatchWithholdingsResponse), forget func()) {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	pause := least
	for ctx.Err() == nil {
		// No deadline: it goes on for ever. A dead connection is ended by keepalive.
		stream, err := c.service.WatchWithholdings(ctx, &withheld.WatchWithholdingsRequest{ResumePosition: position})
		for err == nil {
			var message *withheld.WatchWithholdingsResponse
			if message, err = stream.Recv(); err == nil {
				take(message)
				pause = least
				// Without one, there is more of the same revision to come.
				if resume := message.GetResumePosition(); resume != "" {
					position = resume
				}
			}
		}
		if ctx.Err() != nil {
			return
		}
		problem := problemOf(err)
		if problem.Reason == "FOREIGN_POSITION" {
			// It is of another journal, or of entries that this one has lost.
			position = ""
			forget()
		}
		fmt.Printf("the watch is resumed at `%s`: %+v\n", position, *problem)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(pause)):
		}
		pause = min(2*pause, most)
	}
}

// [end]

// Close ends all calls.
func (c *Client) Close() error { return c.connection.Close() }
