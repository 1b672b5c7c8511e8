// Google's own fake of Pub/Sub (pstest) as a server of its own, for the tests of the Pub/Sub source.
//
// What is stored, ordered, leased and dead-lettered is pstest's. Three things are put before it, because pstest alone
// would show nothing: its StreamingPull sends one message in 10 ms and ignores max_outstanding_messages, so here a
// stream is served from its Pull; it takes acknowledgements that came too late without a word, so here a subscription
// with exactly-once delivery refuses them as the service does; and it forgets everything when it ends, so here SIGUSR1
// closes its port and SIGUSR2 opens it again. How many messages a subscription has, which the service tells in Cloud
// Monitoring, stands in its label "waiting".
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	readySecs   = 600 // how long what is read ahead stays ours
	readAhead   = 1000
	responseMax = 100
	lookEvery   = 20 * time.Millisecond // leases end by themselves
)

// until is when a lease of so many seconds ends here: a little before it does at pstest, which then agrees with us.
func until(secs int32) time.Time {
	return time.Now().Add(time.Duration(secs)*time.Second - 50*time.Millisecond)
}

// held is a message that a client has.
type held struct {
	until time.Time
	of    *flow
}

// flow is one stream's share: what it was sent and has not settled.
type flow struct{ outstanding int }

type service struct {
	*pstest.GServer
	mu      sync.Mutex
	ready   map[string][]*pubsubpb.ReceivedMessage // by subscription, read ahead
	held    map[string]map[string]held             // by subscription, by ack id
	waiting map[string]int                         // by subscription: not acknowledged
	changed chan struct{}                          // closed and made anew when there may be more to send
}

func (s *service) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// take returns up to most messages for a client, which has them for so many seconds. Call it with the lock held.
func (s *service) take(sub string, most int, secs int32, of *flow) ([]*pubsubpb.ReceivedMessage, error) {
	if len(s.ready[sub]) == 0 {
		pulled, err := s.GServer.Pull(context.Background(), &pubsubpb.PullRequest{
			Subscription: sub, MaxMessages: readAhead, ReturnImmediately: true})
		if err != nil {
			return nil, err
		}
		s.modify(sub, pulled.ReceivedMessages, readySecs)
		// As the service does, nearly: pstest takes them in any order.
		slices.SortFunc(pulled.ReceivedMessages, func(a, b *pubsubpb.ReceivedMessage) int {
			return a.Message.PublishTime.AsTime().Compare(b.Message.PublishTime.AsTime())
		})
		s.ready[sub] = pulled.ReceivedMessages
	}
	found := s.ready[sub][:min(most, len(s.ready[sub]))]
	s.ready[sub] = s.ready[sub][len(found):]
	s.modify(sub, found, secs)
	if s.held[sub] == nil {
		s.held[sub] = map[string]held{}
	}
	for _, m := range found {
		s.held[sub][m.AckId] = held{until(secs), of}
	}
	of.outstanding += len(found)
	return found, nil
}

func (s *service) modify(sub string, messages []*pubsubpb.ReceivedMessage, secs int32) {
	if len(messages) == 0 {
		return
	}
	ids := make([]string, len(messages))
	for n, m := range messages {
		ids[n] = m.AckId
	}
	s.GServer.ModifyAckDeadline(context.Background(), &pubsubpb.ModifyAckDeadlineRequest{
		Subscription: sub, AckIds: ids, AckDeadlineSeconds: secs})
}

// expire forgets what clients have no longer. Call it with the lock held.
func (s *service) expire(sub string) {
	now := time.Now()
	for id, h := range s.held[sub] {
		if now.After(h.until) {
			h.of.outstanding--
			delete(s.held[sub], id)
		}
	}
}

// settle takes out of held what is released, moves the ends of the others, and returns the ids that are still good, and
// for the others what the service says with exactly-once delivery.
func (s *service) settle(name string, ids []string, release bool, secs int32) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(name)
	good, bad := []string{}, map[string]string{}
	for _, id := range ids {
		h, ok := s.held[name][id]
		if !ok {
			bad[id] = "PERMANENT_FAILURE_INVALID_ACK_ID"
			continue
		}
		good = append(good, id)
		if release {
			h.of.outstanding--
			delete(s.held[name], id)
		} else {
			h.until = until(secs)
			s.held[name][id] = h
		}
	}
	sub, err := s.GServer.GetSubscription(context.Background(), &pubsubpb.GetSubscriptionRequest{Subscription: name})
	if err != nil || len(bad) == 0 || !sub.EnableExactlyOnceDelivery {
		return good, err
	}
	st, err := status.New(codes.FailedPrecondition, "some acknowledgement ids are not valid").WithDetails(
		&errdetails.ErrorInfo{Reason: "EXACTLY_ONCE_ACKID_FAILURE", Domain: "pubsub.googleapis.com", Metadata: bad})
	if err != nil {
		return good, err
	}
	return good, st.Err()
}

func (s *service) Acknowledge(ctx context.Context, r *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	good, told := s.settle(r.Subscription, r.AckIds, true, 0)
	done, err := s.GServer.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: r.Subscription, AckIds: good})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.waiting[r.Subscription] -= len(good)
		err = told
	}
	s.wake()
	return done, err
}

func (s *service) ModifyAckDeadline(ctx context.Context, r *pubsubpb.ModifyAckDeadlineRequest) (*emptypb.Empty, error) {
	good, told := s.settle(r.Subscription, r.AckIds, r.AckDeadlineSeconds == 0, r.AckDeadlineSeconds)
	done, err := s.GServer.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
		Subscription: r.Subscription, AckIds: good, AckDeadlineSeconds: r.AckDeadlineSeconds})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = told
	}
	s.wake()
	return done, err
}

func (s *service) GetSubscription(
	ctx context.Context, r *pubsubpb.GetSubscriptionRequest) (*pubsubpb.Subscription, error) {
	found, err := s.GServer.GetSubscription(ctx, r)
	if err != nil {
		return nil, err
	}
	found = proto.Clone(found).(*pubsubpb.Subscription)
	s.mu.Lock()
	defer s.mu.Unlock()
	found.Labels = map[string]string{"waiting": fmt.Sprint(s.waiting[r.Subscription])}
	return found, nil
}

func (s *service) Publish(ctx context.Context, r *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	done, err := s.GServer.Publish(ctx, r)
	if err != nil {
		return nil, err
	}
	of, err := s.GServer.ListTopicSubscriptions(ctx, &pubsubpb.ListTopicSubscriptionsRequest{Topic: r.Topic})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range of.GetSubscriptions() {
		s.waiting[name] += len(r.Messages)
	}
	s.wake()
	return done, err
}

func (s *service) Pull(ctx context.Context, r *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	for n := 0; ; n++ {
		s.mu.Lock()
		s.expire(r.Subscription)
		found, err := s.take(r.Subscription, int(r.MaxMessages), 10, &flow{})
		s.mu.Unlock()
		if err != nil || len(found) > 0 || n == 10 || r.ReturnImmediately { //nolint:staticcheck // it is in the API
			return &pubsubpb.PullResponse{ReceivedMessages: found}, err
		}
		time.Sleep(lookEvery)
	}
}

func (s *service) StreamingPull(stream pubsubpb.Subscriber_StreamingPullServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	name := first.Subscription
	sub, err := s.GServer.GetSubscription(stream.Context(), &pubsubpb.GetSubscriptionRequest{Subscription: name})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // heartbeats; the end of the client's half ends the stream
		defer close(ended)
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	properties := &pubsubpb.StreamingPullResponse_SubscriptionProperties{
		ExactlyOnceDeliveryEnabled: sub.EnableExactlyOnceDelivery, MessageOrderingEnabled: sub.EnableMessageOrdering}
	of, most := &flow{}, int(first.MaxOutstandingMessages)
	if most <= 0 {
		most = readAhead
	}
	for {
		s.mu.Lock()
		s.expire(name)
		changed := s.changed
		found, err := s.take(name, max(0, min(most-of.outstanding, responseMax)), first.StreamAckDeadlineSeconds, of)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if len(found) > 0 {
			if err := stream.Send(&pubsubpb.StreamingPullResponse{
				ReceivedMessages: found, SubscriptionProperties: properties}); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ended:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		case <-time.After(lookEvery):
		}
	}
}

func serve(s *service, address string) (*grpc.Server, string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	// Pings of the client are how it notices a dead link; a Go server takes few by default.
	server := grpc.NewServer(grpc.MaxRecvMsgSize(20<<20), grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: 100 * time.Millisecond, PermitWithoutStream: true}))
	pubsubpb.RegisterPublisherServer(server, s)
	pubsubpb.RegisterSubscriberServer(server, s)
	go server.Serve(listener)
	return server, listener.Addr().String()
}

func main() {
	fake := pstest.NewServer()
	s := &service{GServer: &fake.GServer, ready: map[string][]*pubsubpb.ReceivedMessage{},
		held: map[string]map[string]held{}, waiting: map[string]int{}, changed: make(chan struct{})}
	server, address := serve(s, "127.0.0.1:0")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	for life := 1; ; {
		fmt.Printf("READY %d %s.\n", life, address)
		for sig := range signals {
			if sig == syscall.SIGUSR2 {
				break
			}
			server.Stop()
			if sig != syscall.SIGUSR1 {
				return
			}
			fmt.Printf("AWAY %d.\n", life)
		}
		life++
		server, _ = serve(s, address)
	}
}
