// An edge node with a device behind it, by the package sparkplug-client.
// Lines on standard input: "node 1.5" and "device -3" publish a value, "death" is the device's, "stop" ends.
const sparkplug = require("sparkplug-client");
const readline = require("readline");

const [serverUrl, groupId, edgeNode] = process.argv.slice(2);
const client = sparkplug.newClient({
  serverUrl, username: "", password: "", groupId, edgeNode,
  clientId: `${edgeNode}-client`, version: "spBv1.0", publishDeath: true,
});
const flow = (value, more) => ({ timestamp: Date.now(), metrics: [{ name: "Flow", type: "Double", value, ...more }] });
const level = (value) => ({ timestamp: Date.now(), metrics: [{ name: "Level", type: "Int16", value }] });

const birth = () => {
  client.publishNodeBirth(flow(1.25));
  client.publishDeviceBirth("pump", level(-2));
  console.log("born");
};
client.on("birth", birth);
client.on("ncmd", ({ metrics }) => {
  if (metrics.some(({ name, value }) => name === "Node Control/Rebirth" && value)) birth();
});
client.on("error", (error) => console.log(`error ${error}`));
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, value] = line.split(" ");
  if (what === "node") client.publishNodeData(flow(Number(value)));
  if (what === "device") client.publishDeviceData("pump", level(Number(value)));
  if (what === "death") client.publishDeviceDeath("pump", { timestamp: Date.now() });
  if (what === "stop") client.stop();
});
