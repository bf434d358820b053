// Prints each Sparkplug message of a group as a line of JSON, decoded by the package sparkplug-payload.
// Lines on standard input are asked of the node named there: a rebirth.
const mqtt = require("mqtt");
const { get } = require("sparkplug-payload");
const readline = require("readline");

const payloads = get("spBv1.0");
const [url, group] = process.argv.slice(2);
const client = mqtt.connect(url);
const plain = (_key, value) =>
  value && typeof value === "object" && typeof value.toNumber === "function" ? value.toNumber() : value;

client.on("connect", () => {
  client.subscribe(`spBv1.0/${group}/#`, { qos: 1 }, () => console.log(JSON.stringify({ ready: true })));
});
client.on("message", (topic, data) => {
  const payload = payloads.decodePayload(data);
  console.log(JSON.stringify({ topic, payload }, plain));
});
readline.createInterface({ input: process.stdin }).on("line", (node) => {
  const metrics = [{ name: "Node Control/Rebirth", type: "Boolean", value: true }];
  client.publish(
    `spBv1.0/${group}/NCMD/${node}`,
    Buffer.from(payloads.encodePayload({ timestamp: Date.now(), metrics })),
  );
});
