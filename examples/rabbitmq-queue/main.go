// Command rabbitmq-queue puts lines into a queue of RabbitMQ, and takes messages out of
// one, as any program of yours would: it knows nothing of Freshet.
//
//	rabbitmq-queue put QUEUE <lines
//	rabbitmq-queue take QUEUE COUNT
//
// RABBITMQ says where the server is, HOST:PORT, and RABBITMQ_PASSWORD is the password of the user freshet.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rabbitmq-queue:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if len(args) == 0 || args[0] == "put" && len(args) != 2 || args[0] == "take" && len(args) != 3 || args[0] != "put" && args[0] != "take" {
		return errors.New("expected put QUEUE, or take QUEUE COUNT")
	}
	c, err := amqp.Dial(fmt.Sprintf("amqp://freshet:%s@%s/", os.Getenv("RABBITMQ_PASSWORD"), os.Getenv("RABBITMQ")))
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if args[0] == "put" {
		return put(ctx, ch, args[1], in)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	return take(ctx, ch, args[1], n, out)
}

// put sends each line as a message, and returns when the server has confirmed all.
func put(ctx context.Context, ch *amqp.Channel, queue string, in io.Reader) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		d, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{
			ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: lines.Bytes(),
		})
		if err != nil {
			return err
		}
		if ok, err := d.WaitContext(ctx); err != nil || !ok {
			return errors.Join(err, errors.New("the server did not confirm a message"))
		}
	}
	return lines.Err()
}

// take writes the next n messages as lines, and acknowledges them.
func take(ctx context.Context, ch *amqp.Channel, queue string, n int, out io.Writer) error {
	messages, err := ch.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for range n {
		m, ok := <-messages
		if !ok {
			return fmt.Errorf("queue %s: there are fewer than %d messages", queue, n)
		}
		if _, err := fmt.Fprintf(out, "%s\n", m.Body); err != nil {
			return err
		}
		if err := m.Ack(false); err != nil {
			return err
		}
	}
	return nil
}
