// Three clients in Go for the suite `secure`, which tells what is asked: secure-go franz-go | sarama | kafka-go.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	kplain "github.com/segmentio/kafka-go/sasl/plain"
	kscram "github.com/segmentio/kafka-go/sasl/scram"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	xdg "github.com/xdg-go/scram"
)

const patience = 60 * time.Second

// asked says whom to trust, who one is, and what to do.
type asked struct{ address, mechanism, user, password, topic, group, ca string }

// client has connected.
type client interface {
	write(topic string) error
	read(topic, group string) ([]string, error)
	close()
}

func values() (out []string) {
	for n := range 10 {
		out = append(out, fmt.Sprintf("%d größe", n))
	}
	return out
}

func (a asked) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(a.ca)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots}, err
}

type franz struct {
	options []kgo.Opt
	*kgo.Client
}

func newFranz(a asked, trusted *tls.Config) (client, error) {
	who := scram.Auth{User: a.user, Pass: a.password}
	mechanism := map[string]kgo.Opt{
		"PLAIN":         kgo.SASL(plain.Auth{User: a.user, Pass: a.password}.AsMechanism()),
		"SCRAM-SHA-256": kgo.SASL(who.AsSha256Mechanism()), "SCRAM-SHA-512": kgo.SASL(who.AsSha512Mechanism()),
		"OAUTHBEARER": kgo.SASL(oauth.Auth{Token: a.password}.AsMechanism()),
	}[a.mechanism]
	options := []kgo.Opt{kgo.SeedBrokers(a.address), kgo.DialTLSConfig(trusted), mechanism, kgo.RetryTimeout(patience), kgo.RequestRetries(2)}
	cl, err := kgo.NewClient(options...)
	return franz{options, cl}, err
}

func (f franz) write(topic string) error {
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Ping(limit); err != nil {
		return err
	}
	for _, value := range values() {
		if err := f.ProduceSync(limit, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

func (f franz) read(topic, group string) (out []string, err error) {
	cl, err := kgo.NewClient(append(f.options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(out) < len(values()) && err == nil {
		fetches := cl.PollFetches(limit)
		err = fetches.Err()
		for _, record := range fetches.Records() {
			out = append(out, string(record.Value))
		}
	}
	return out, err
}

func (f franz) close() { f.Client.Close() }

// exchange is what sarama leaves to its users: the client's side of SCRAM.
type exchange struct {
	xdg.HashGeneratorFcn
	*xdg.ClientConversation
}

func (e *exchange) Begin(user, password, authzid string) error {
	client, err := e.NewClient(user, password, authzid)
	if err == nil {
		e.ClientConversation = client.NewConversation()
	}
	return err
}

// token is one as sarama asks for it.
type token string

func (t token) Token() (*sarama.AccessToken, error) { return &sarama.AccessToken{Token: string(t)}, nil }

type saramaClient struct {
	address string
	conf    *sarama.Config
	sarama.SyncProducer
}

func newSarama(a asked, trusted *tls.Config) (client, error) {
	conf := sarama.NewConfig()
	conf.Metadata.Retry.Max, conf.Producer.Return.Successes, conf.Consumer.Offsets.Initial = 0, true, sarama.OffsetOldest
	conf.Net.TLS.Enable, conf.Net.TLS.Config = true, trusted
	conf.Net.SASL.Enable, conf.Net.SASL.User, conf.Net.SASL.Password, conf.Net.SASL.Mechanism = true, a.user, a.password, sarama.SASLMechanism(a.mechanism)
	conf.Net.SASL.TokenProvider = token(a.password)
	conf.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
		return &exchange{HashGeneratorFcn: map[string]xdg.HashGeneratorFcn{"SCRAM-SHA-256": xdg.SHA256, "SCRAM-SHA-512": xdg.SHA512}[a.mechanism]}
	}
	producer, err := sarama.NewSyncProducer([]string{a.address}, conf)
	return saramaClient{a.address, conf, producer}, err
}

func (s saramaClient) write(topic string) error {
	for _, value := range values() {
		if _, _, err := s.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
			return err
		}
	}
	return nil
}

// taken is one generation's part in a group.
type taken struct{ values *[]string }

func (taken) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (taken) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (t taken) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		if *t.values = append(*t.values, string(message.Value)); len(*t.values) == len(values()) {
			break
		}
	}
	return nil
}

func (s saramaClient) read(topic, group string) (out []string, err error) {
	member, err := sarama.NewConsumerGroup([]string{s.address}, group, s.conf)
	if err != nil {
		return nil, err
	}
	defer member.Close()
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = member.Consume(limit, []string{topic}, taken{&out})
	return out, err
}

func (s saramaClient) close() { s.SyncProducer.Close() }

type kafkaGo struct {
	address string
	dialer  *kafka.Dialer
	*kafka.Writer
}

func newKafkaGo(a asked, trusted *tls.Config) (client, error) {
	var mechanism sasl.Mechanism = kplain.Mechanism{Username: a.user, Password: a.password}
	if algorithm := map[string]kscram.Algorithm{"SCRAM-SHA-256": kscram.SHA256, "SCRAM-SHA-512": kscram.SHA512}[a.mechanism]; algorithm != nil {
		var err error
		if mechanism, err = kscram.Mechanism(algorithm, a.user, a.password); err != nil {
			return nil, err
		}
	}
	writer := &kafka.Writer{Addr: kafka.TCP(a.address), BatchTimeout: time.Millisecond, RequiredAcks: kafka.RequireAll, MaxAttempts: 2, Transport: &kafka.Transport{TLS: trusted, SASL: mechanism}}
	return kafkaGo{a.address, &kafka.Dialer{Timeout: patience, TLS: trusted, SASLMechanism: mechanism}, writer}, nil
}

func (k kafkaGo) write(topic string) error {
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var messages []kafka.Message
	for _, value := range values() {
		messages = append(messages, kafka.Message{Topic: topic, Value: []byte(value)})
	}
	return k.WriteMessages(limit, messages...)
}

func (k kafkaGo) read(topic, group string) (out []string, err error) {
	// It closes only when its last request has been answered.
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{k.address}, Dialer: k.dialer, Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset,
		MaxWait: 100 * time.Millisecond})
	defer reader.Close()
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(out) < len(values()) && err == nil {
		var message kafka.Message
		if message, err = reader.ReadMessage(limit); err == nil {
			out = append(out, string(message.Value))
		}
	}
	return out, err
}

func (k kafkaGo) close() { k.Writer.Close() }

func main() {
	connect := map[string]func(asked, *tls.Config) (client, error){"franz-go": newFranz, "sarama": newSarama, "kafka-go": newKafkaGo}[os.Args[1]]
	var held client
	do := func(words []string) error {
		if words[0] == "again" {
			return held.write(words[1])
		}
		if held != nil {
			held.close()
			held = nil
		}
		a := asked{address: words[1], ca: words[2], mechanism: words[3], user: words[4], password: words[5], topic: words[6], group: words[7]}
		trusted, err := a.tls()
		if err != nil {
			return err
		}
		cl, err := connect(a, trusted)
		if err != nil {
			return err
		}
		held = cl
		if err := held.write(a.topic); err != nil {
			return err
		}
		read, err := held.read(a.topic, a.group)
		if err == nil && !slices.Equal(read, values()) {
			err = errors.New(fmt.Sprint("read ", read))
		}
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := do(strings.Split(lines.Text(), "\t")); err != nil {
			fmt.Println("error", strings.Join(strings.Fields(fmt.Sprintf("%T %v", err, err)), " "))
		} else {
			fmt.Println("ok")
		}
	}
}
