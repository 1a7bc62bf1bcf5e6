// A JavaScript program that asks `lago serve` over HTTP; Node 18 or newer, nothing to install.
//
//   lago serve checkpoints/demo/bundle
//   node examples/guide.mjs http://127.0.0.1:8765 push-wall

const [address, task] = process.argv.slice(2);
const bundle = await (await fetch(`${address}/v1/bundle`)).json();
const size = bundle.observation.reduce((sum, entry) => sum + entry.size, 0);
const response = await fetch(`${address}/v1/act`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({
    observations: [new Array(size).fill(0)],
    task,
    world: bundle.world_id, // refused should another world be served here
    step_id: 1,
    sent_at: Date.now() / 1000,
    max_age_ms: 1000,
    want: ["explanation"],
  }),
});
const answer = await response.json();
if (!response.ok) throw new Error(answer.error);
if (answer.late) throw new Error("the answer came too late");
console.log("action", answer.actions[0], answer.unfamiliar[0] ? "unfamiliar" : "familiar");
console.log(answer.explanation[0].sentence);
