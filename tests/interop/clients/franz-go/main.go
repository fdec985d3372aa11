// franz-go, the client for Go. The report on stdout is described in check.py.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	address = os.Args[1]
	ctx     = context.Background()
	start   = time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	admin   = kadm.NewClient(client())
	answers = bufio.NewReader(os.Stdin)
	unable  = errors.New("this broker cannot be restarted from here")
)

// records: null and empty, a tombstone, any bytes, line ends, repeated and null headers.
func records() []*kgo.Record {
	every := make([]byte, 256)
	for n := range every {
		every[n] = byte(n)
	}
	out := []*kgo.Record{
		{Key: []byte("user-1"), Value: []byte("hello"), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("1")}}},
		{Value: []byte("no key")},
		{Key: []byte{}, Value: []byte{}, Headers: []kgo.RecordHeader{{Key: "empty", Value: []byte{}}, {Key: "null"}}},
		{Key: []byte("gone")},
		{Key: every, Value: []byte("two\nlines\r\n\x00\ttab \\ offset:7"),
			Headers: []kgo.RecordHeader{{Key: "b", Value: []byte{255, 0}}, {Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}},
		{Key: []byte("schlüssel"), Value: bytes.Repeat([]byte("wert 😀"), 200), Headers: []kgo.RecordHeader{{Key: "größe", Value: []byte("ü")}}},
	}
	for n, record := range out {
		record.Timestamp = start.Add(time.Duration(n) * time.Second)
	}
	return out
}

// plain makes records with nothing but a value, stamped a second apart.
func plain(partition int32, values ...string) (out []*kgo.Record) {
	for n, value := range values {
		out = append(out, &kgo.Record{Partition: partition, Value: []byte(value), Timestamp: start.Add(time.Duration(n) * time.Second)})
	}
	return out
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func get[T any](value T, err error) T {
	must(err)
	return value
}

func equal(got, expected any) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Errorf("got %v, expected %v", got, expected))
	}
}

func refused(err, expected error) {
	if !errors.Is(err, expected) {
		panic(fmt.Errorf("got %v, expected %v", err, expected))
	}
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	panic(fmt.Errorf("not within 30 s: %s", what))
}

func fresh(name string) string { return name + "-" + strings.ToLower(rand.Text()[:8]) }

func client(options ...kgo.Opt) *kgo.Client {
	return get(kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address), kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...))
}

func create(topic string, partitions int32, configs map[string]*string) string {
	must(get(admin.CreateTopic(ctx, partitions, 1, configs, topic)).Err)
	return topic
}

func produce(topic string, records []*kgo.Record, options ...kgo.Opt) error {
	cl := client(append(options, kgo.DefaultProduceTopic(topic))...)
	defer cl.Close()
	return cl.ProduceSync(ctx, records...).FirstErr()
}

func take(cl *kgo.Client, count int) (out []*kgo.Record) {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for len(out) < count {
		fetches := cl.PollFetches(limit)
		must(fetches.Err())
		out = append(out, fetches.Records()...)
	}
	return out
}

func readFrom(topic string, offset kgo.Offset, count int) []*kgo.Record {
	cl := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: offset}}))
	defer cl.Close()
	return take(cl, count)
}

func values(records []*kgo.Record) (out []string) {
	for _, record := range records {
		out = append(out, string(record.Value))
	}
	return out
}

// member is one of a group; it polls in the background and knows its partitions.
type member struct {
	*kgo.Client
	lock    sync.Mutex
	owned   map[int32]bool
	records []*kgo.Record
}

func join(topic, group string, options ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range partitions[topic] {
				if owns {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	m.Client = client(append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false))}, options...)...)
	go func() {
		for {
			fetches := m.PollFetches(ctx)
			if fetches.IsClientClosed() {
				return
			}
			m.lock.Lock()
			m.records = append(m.records, fetches.Records()...)
			m.lock.Unlock()
		}
	}()
	return m
}

func (m *member) count() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.records) }
func (m *member) share() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.owned) }

func rebalances(balancer kgo.GroupBalancer) {
	topic, group := create(fresh("shared"), 4, nil), fresh("group")
	first := join(topic, group, kgo.Balancers(balancer))
	defer first.Close()
	until("one owner of all", func() bool { return first.share() == 4 })
	second := join(topic, group, kgo.Balancers(balancer))
	defer second.Close()
	until("two halves", func() bool { return first.share() == 2 && second.share() == 2 })
	for partition := range int32(4) {
		must(produce(topic, plain(partition, fmt.Sprint(partition))))
	}
	until("one message of each partition", func() bool { return first.count()+second.count() == 4 })
	second.LeaveGroup()
	until("one owner again", func() bool { return first.share() == 4 })
}

func keepsRecords(codec kgo.CompressionCodec) {
	topic := create(fresh("codec"), 1, nil)
	var sent []*kgo.Record
	for range 50 {
		sent = append(sent, records()...)
	}
	must(produce(topic, sent, kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50*time.Millisecond)))
	got := readFrom(topic, kgo.NewOffset().AtStart(), len(sent))
	for n, record := range got {
		expected := records()[n%6]
		equal([]any{record.Offset, record.Key, record.Value, record.Timestamp.UnixMilli()}, []any{int64(n), expected.Key, expected.Value, expected.Timestamp.UnixMilli()})
		if !slices.EqualFunc(record.Headers, expected.Headers, func(a, b kgo.RecordHeader) bool {
			return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
		}) {
			panic(fmt.Errorf("headers %v, expected %v", record.Headers, expected.Headers))
		}
	}
}

// transactional is a producer that fences whoever had its id, with what it does at the end of each transaction.
type transactional struct{ *kgo.Client }

func producer(id string) transactional { return transactional{client(kgo.TransactionalID(id))} }

func (p transactional) send(topic string, partition int32, values ...string) error {
	records := plain(partition, values...)
	for _, record := range records {
		record.Topic = topic
	}
	return p.ProduceSync(ctx, records...).FirstErr()
}

func (p transactional) end(commit kgo.TransactionEndTry) error {
	if err := p.Flush(ctx); err != nil {
		return err
	}
	return p.EndTransaction(ctx, commit)
}

// readToTheEnd returns what a reader at this isolation level finds before the end of the partition.
func readToTheEnd(level kgo.IsolationLevel, topic string, partition int32) (out []string) {
	list := admin.ListEndOffsets
	if level == kgo.ReadCommitted() {
		list = admin.ListCommittedOffsets
	}
	end := get(list(ctx, topic))[topic][partition].Offset
	cl := client(kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for next := int64(0); next < end; {
		fetches := cl.PollFetches(limit)
		must(fetches.Err())
		for _, record := range fetches.Records() {
			if next = record.Offset + 1; !record.Attrs.IsControl() {
				out = append(out, string(record.Value))
			}
		}
	}
	return out
}

// settled tells whether no transaction is open in any partition.
func settled(topic string, partitions int32) bool {
	stable, ends := get(admin.ListCommittedOffsets(ctx, topic)), get(admin.ListEndOffsets(ctx, topic))
	for partition := range partitions {
		if stable[topic][partition].Offset != ends[topic][partition].Offset {
			return false
		}
	}
	return true
}

func committed(topic string, partition int32) []string {
	return readToTheEnd(kgo.ReadCommitted(), topic, partition)
}

func restartBroker() error {
	fmt.Println("restart")
	if answer, err := answers.ReadString('\n'); err != nil || answer != "restarted\n" {
		return unable
	}
	return nil
}

type check struct {
	name string
	run  func()
}

var checks = []check{
	{"creates_lists_and_describes_topics", func() {
		topic := create(fresh("made"), 3, nil)
		described := get(admin.ListTopics(ctx, topic))[topic]
		must(described.Err)
		for partition := range int32(3) {
			p := described.Partitions[partition]
			equal([]any{p.Leader, p.Replicas, p.ISR}, []any{int32(1), []int32{1}, []int32{1}})
		}
		equal(len(described.Partitions), 3)
		_, err := admin.CreateTopic(ctx, 1, 1, nil, topic)
		refused(err, kerr.TopicAlreadyExists)
		cluster := get(admin.BrokerMetadata(ctx))
		equal([]any{cluster.Controller, len(cluster.Brokers), cluster.Cluster != ""}, []any{int32(1), 1, true})
		equal(fmt.Sprintf("%s:%d", cluster.Brokers[0].Host, cluster.Brokers[0].Port), address)
	}},
	{"keeps_keys_headers_and_timestamps[none]", func() { keepsRecords(kgo.NoCompression()) }},
	{"keeps_keys_headers_and_timestamps[gzip]", func() { keepsRecords(kgo.GzipCompression()) }},
	{"keeps_keys_headers_and_timestamps[snappy]", func() { keepsRecords(kgo.SnappyCompression()) }},
	{"keeps_keys_headers_and_timestamps[lz4]", func() { keepsRecords(kgo.Lz4Compression()) }},
	{"keeps_keys_headers_and_timestamps[zstd]", func() { keepsRecords(kgo.ZstdCompression()) }},
	{"reads_from_beginning_end_and_time", func() {
		topic := create(fresh("places"), 1, nil)
		must(produce(topic, plain(0, "0", "1", "2", "3")))
		equal(values(readFrom(topic, kgo.NewOffset().AtStart(), 4)), []string{"0", "1", "2", "3"})
		equal(values(readFrom(topic, kgo.NewOffset().AtEnd().Relative(-1), 1)), []string{"3"})
		equal(values(readFrom(topic, kgo.NewOffset().AfterMilli(start.UnixMilli()+1001), 2)), []string{"2", "3"})
		for time, offset := range map[int64]int64{0: 0, 1001: 2, 3001: 4} {
			listed := get(admin.ListOffsetsAfterMilli(ctx, start.UnixMilli()+time, topic))
			equal(listed[topic][0].Offset, offset)
		}
		cl := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtEnd()}}), kgo.FetchMaxWait(200*time.Millisecond))
		defer cl.Close()
		limit, cancel := context.WithTimeout(ctx, time.Second)
		equal(len(cl.PollFetches(limit).Records()), 0)
		cancel()
		must(produce(topic, plain(0, "4")))
		equal(values(take(cl, 1)), []string{"4"})
	}},
	{"group_rebalances_when_a_member_joins_and_leaves", func() { rebalances(kgo.RangeBalancer()) }},
	{"group_rebalances_cooperatively", func() { rebalances(kgo.CooperativeStickyBalancer()) }},
	{"group_resumes_at_committed_offset_and_lag_is_the_rest", func() {
		topic, group := create(fresh("resumed"), 1, nil), fresh("group")
		must(produce(topic, plain(0, strings.Split("0123456789", "")...)))
		first := join(topic, group)
		until("all messages", func() bool { return first.count() == 10 })
		first.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 4}}},
			func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
				must(err)
				must(kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode))
			})
		first.Close()
		equal(get(admin.FetchOffsets(ctx, group))[topic][0].At, int64(4))
		lags := get(admin.Lag(ctx, group))
		must(lags.Error())
		equal(lags[group].Lag[topic][0].Lag, int64(6))
		second := join(topic, group)
		defer second.Close()
		until("the rest", func() bool { return second.count() == 6 })
		equal(values(second.records), []string{"4", "5", "6", "7", "8", "9"})
	}},
	{"the_offsets_topic_tells_commits_and_members_as_kminion_reads_them", func() {
		topic, group := create(fresh("watched"), 2, nil), fresh("group")
		member := join(topic, group)
		defer member.Close()
		until("its partitions", func() bool { return member.share() == 2 })
		member.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: {1: {Epoch: -1, Offset: 0}}}, nil)
		reader := client(kgo.ConsumeTopics("__consumer_offsets"))
		defer reader.Close()
		committed, owned := int64(-1), []int32{}
		until("the commit and the member", func() bool {
			limit, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			for _, record := range reader.PollFetches(limit).Records() {
				offsets, members := kmsg.NewOffsetCommitKey(), kmsg.NewGroupMetadataKey()
				switch version := binary.BigEndian.Uint16(record.Key); {
				case record.Value == nil: // it is gone
				case version < 2:
					must(offsets.ReadFrom(record.Key))
					value := kmsg.NewOffsetCommitValue()
					must(value.ReadFrom(record.Value))
					if offsets.Group == group {
						equal([]any{offsets.Topic, offsets.Partition}, []any{topic, int32(1)})
						committed = value.Offset
					}
				case version == 2:
					must(members.ReadFrom(record.Key))
					value := kmsg.NewGroupMetadataValue()
					must(value.ReadFrom(record.Value))
					if members.Group == group {
						for _, one := range value.Members {
							equal(value.ProtocolType, "consumer")
							assigned := kmsg.NewConsumerMemberAssignment()
							must(assigned.ReadFrom(one.Assignment))
							owned = assigned.Topics[0].Partitions
						}
					}
				}
			}
			return committed == 0 && len(owned) == 2
		})
	}},
	{"admin_lists_describes_resets_and_deletes_groups", func() {
		topic, group := create(fresh("administered"), 2, nil), fresh("group")
		reader := join(topic, group)
		defer reader.Close()
		until("its partitions", func() bool { return reader.share() == 2 })
		equal(get(admin.ListGroups(ctx))[group].Group, group)
		described := get(admin.DescribeGroups(ctx, group))[group]
		equal([]any{described.State, len(described.Members), described.Coordinator.NodeID}, []any{"Stable", 1, int32(1)})
		refused(get(admin.DeleteGroups(ctx, group))[group].Err, kerr.NonEmptyGroup)
		reader.Close()
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, 7, -1)
		must(admin.CommitAllOffsets(ctx, group, offsets))
		equal(get(admin.FetchOffsets(ctx, group))[topic][0].At, int64(7))
		must(get(admin.DeleteGroups(ctx, group))[group].Err)
		equal(get(admin.ListGroups(ctx))[group].Group, "")
	}},
	{"admin_reads_and_alters_settings", func() {
		topic := create(fresh("settings"), 1, map[string]*string{"retention.ms": kadm.StringPtr("3600000")})
		settings := func() map[string]string {
			out := map[string]string{}
			for _, config := range get(get(admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil)).Configs {
				out[config.Key] = config.MaybeValue()
			}
			return out
		}
		before := settings()
		equal([]string{before["retention.ms"], before["cleanup.policy"]}, []string{"3600000", "delete"})
		changes := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")}, {Op: kadm.DeleteConfig, Name: "retention.ms"}}
		must(get(get(admin.AlterTopicConfigs(ctx, changes, topic)).On(topic, nil)).Err)
		until("the new policy", func() bool { return settings()["cleanup.policy"] == "compact" })
		equal(settings()["retention.ms"], "604800000")
	}},
	{"admin_adds_partitions_deletes_records_and_topics", func() {
		topic := create(fresh("changed"), 1, nil)
		must(get(admin.UpdatePartitions(ctx, 3, topic)).Error())
		until("three partitions", func() bool { return len(get(admin.ListTopics(ctx, topic))[topic].Partitions) == 3 })
		must(produce(topic, plain(0, "0", "1", "2")))
		cut := kadm.Offsets{}
		cut.AddOffset(topic, 0, 2, -1)
		equal(get(admin.DeleteRecords(ctx, cut))[topic][0].LowWatermark, int64(2))
		equal(values(readFrom(topic, kgo.NewOffset().AtStart(), 1)), []string{"2"})
		must(get(admin.DeleteTopics(ctx, topic)).Error())
		until("the topic's end", func() bool { return !get(admin.ListTopics(ctx)).Has(topic) })
	}},
	{"refuses_a_message_that_is_too_large", func() {
		topic := create(fresh("large"), 1, map[string]*string{"max.message.bytes": kadm.StringPtr("2000")})
		refused(produce(topic, plain(0, strings.Repeat("x", 5000)), kgo.ProducerBatchCompression(kgo.NoCompression())), kerr.MessageTooLarge)
	}},
	{"idempotent_producer_survives_a_broker_restart", func() {
		topic := create(fresh("idempotent"), 1, nil)
		cl := client(kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(time.Millisecond))
		defer cl.Close()
		failed, sent := make(chan error, 1_000_000), []string{}
		send := func() {
			value := fmt.Sprint(len(sent))
			sent = append(sent, value)
			cl.Produce(ctx, &kgo.Record{Value: []byte(value)}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed <- err
				}
			})
		}
		for range 500 {
			send()
		}
		restarted := make(chan error)
		go func() { restarted <- restartBroker() }()
		for waiting := true; waiting; time.Sleep(time.Millisecond) {
			select {
			case err := <-restarted:
				must(err)
				waiting = false
			default:
				send()
			}
		}
		for range 500 {
			send()
		}
		limit, cancel := context.WithTimeout(ctx, 90*time.Second)
		defer cancel()
		must(cl.Flush(limit))
		if len(failed) > 0 {
			panic(<-failed)
		}
		equal(values(readFrom(topic, kgo.NewOffset().AtStart(), len(sent))), sent)
	}},
	{"transaction_is_seen_whole_or_not_at_all", func() {
		topic, p := create(fresh("transactions"), 2, nil), producer(fresh("id"))
		defer p.Close()
		var seen []string
		for _, outcome := range []string{"commit", "abort", "commit"} {
			must(p.BeginTransaction())
			for partition := range int32(2) {
				must(p.send(topic, partition, outcome, "more"))
			}
			all := readToTheEnd(kgo.ReadUncommitted(), topic, 1)
			equal(all[len(all)-2:], []string{outcome, "more"})
			equal([][]string{committed(topic, 0), committed(topic, 1)}, [][]string{seen, seen})
			must(p.end(kgo.TransactionEndTry(outcome == "commit")))
			if outcome == "commit" {
				seen = append(seen, "commit", "more")
			}
			// Kafka writes its markers after it has answered.
			until("the end of the transaction", func() bool { return settled(topic, 2) })
		}
		for partition := range int32(2) {
			equal(committed(topic, partition), []string{"commit", "more", "commit", "more"})
			equal(readToTheEnd(kgo.ReadUncommitted(), topic, partition), []string{"commit", "more", "abort", "more", "commit", "more"})
		}
	}},
	{"offsets_are_committed_with_the_records_that_were_made_of_them", func() {
		in, out, group, id := create(fresh("in"), 1, nil), create(fresh("out"), 1, nil), fresh("group"), fresh("id")
		must(produce(in, plain(0, strings.Split("0123456789", "")...)))
		// Each try begins where the last one that was committed ended.
		for _, commits := range []bool{false, true, true} {
			session := get(kgo.NewGroupTransactSession(kgo.SeedBrokers(address), kgo.TransactionalID(id), kgo.ConsumerGroup(group), kgo.ConsumeTopics(in),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(out)))
			var taken []*kgo.Record
			for len(taken) < 5 {
				taken = append(taken, session.PollRecords(ctx, 5-len(taken)).Records()...)
			}
			must(session.Begin())
			for _, record := range taken {
				session.Produce(ctx, &kgo.Record{Value: append(record.Value, record.Value...)}, func(_ *kgo.Record, err error) { must(err) })
			}
			must(session.Client().Flush(ctx))
			equal(get(session.End(ctx, kgo.TransactionEndTry(commits))), commits)
			session.Close()
		}
		equal(committed(out, 0), []string{"00", "11", "22", "33", "44", "55", "66", "77", "88", "99"})
		equal(get(admin.FetchOffsets(ctx, group))[in][0].At, int64(10))
	}},
	{"second_producer_fences_the_first", func() {
		topic, id := create(fresh("fenced"), 1, nil), fresh("id")
		first, second := producer(id), producer(id)
		defer first.Close()
		defer second.Close()
		must(first.BeginTransaction())
		must(first.send(topic, 0, "of the first"))
		must(second.BeginTransaction())
		must(second.send(topic, 0, "of the second"))
		if err := first.end(kgo.TryCommit); !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
			panic(fmt.Errorf("it was not fenced: %v", err))
		}
		must(second.end(kgo.TryCommit))
		equal(committed(topic, 0), []string{"of the second"})
	}},
	{"admin_lists_describes_and_aborts_transactions", func() {
		topic, id := create(fresh("administered"), 1, nil), fresh("id")
		p := producer(id)
		defer p.Close()
		must(p.BeginTransaction())
		must(p.send(topic, 0, "hangs"))
		described := get(admin.DescribeTransactions(ctx, id))[id]
		must(described.Err)
		equal([]any{described.State, described.Topics.Lookup(topic, 0)}, []any{"Ongoing", true})
		equal(get(admin.ListTransactions(ctx, nil, []string{"Ongoing"}))[id].ProducerID, described.ProducerID)
		active := get(admin.DescribeProducers(ctx, described.Topics))[topic].Partitions[0].ActiveProducers[described.ProducerID]
		equal(active.CurrentTxnStartOffset, int64(0))
		marker := kadm.TxnMarkers{ProducerID: active.ProducerID, ProducerEpoch: active.ProducerEpoch, Topics: described.Topics}
		must(get(admin.WriteTxnMarkers(ctx, marker))[active.ProducerID].Topics[topic].Partitions[0].Err)
		equal(get(admin.ListCommittedOffsets(ctx, topic))[topic][0].Offset, int64(2))
		equal(len(committed(topic, 0)), 0)
		must(p.end(kgo.TryAbort))
	}},
}

func run(c check) {
	defer func() {
		if problem := recover(); problem == nil {
			fmt.Println("pass", c.name)
		} else if problem == unable {
			fmt.Printf("unable %s: %v\n", c.name, problem)
		} else {
			fmt.Fprintf(os.Stderr, "%v\n%s", problem, debug.Stack())
			text := strings.ReplaceAll(fmt.Sprint(problem), "\n", " ")
			fmt.Printf("fail %s: %s\n", c.name, text[:min(400, len(text))])
		}
	}()
	c.run()
}

func main() {
	release := "?"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				release = module.Version
			}
		}
	}
	fmt.Println("note franz-go", release)
	for _, c := range checks {
		run(c)
	}
	fmt.Println("done")
}
