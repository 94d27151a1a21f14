// Drives the sandbox with Stripe's own client for Node; prints what it saw as one line of JSON.
import Stripe from "stripe";

const [port, key, account] = process.argv.slice(2);
const stripe = new Stripe(key, { host: "127.0.0.1", port: Number(port), protocol: "http", maxNetworkRetries: 0, telemetry: false });
const order = { amount: 1234, currency: "usd", destination: account, transfer_group: "node", metadata: { run: "7" } };

const first = await stripe.transfers.create(order, { idempotencyKey: "node 1" });
const again = await stripe.transfers.create(order, { idempotencyKey: "node 1" });
const reversal = await stripe.transfers.createReversal(first.id, { amount: 234 });
const whole = await stripe.transfers.retrieve(first.id, { expand: ["destination_payment.balance_transaction"] });
const found = [];
for await (const transfer of stripe.transfers.list({ transfer_group: "node", limit: 1 })) found.push(transfer.id);
const theirs = await stripe.balance.retrieve({}, { stripeAccount: account });
const refusal = await stripe.transfers.create({ ...order, amount: 99000000 }).catch((error) => error);
const webhook = stripe.webhooks.constructEvent(process.env.WEBHOOK_BODY, process.env.WEBHOOK_SIGNATURE, "whsec_node");

console.log(JSON.stringify({
  once: first.id === again.id && found.length === 1,
  reversed: reversal.amount,
  arrived: whole.destination_payment.balance_transaction.net,
  available: theirs.available[0].amount,
  refused: [refusal.type, refusal.code, refusal.statusCode],
  event: webhook.type,
}));
