// The group of a user, as hitparade assigns it: for whoever has to know it elsewhere. Needs nothing but Node.
// As a program: each line of standard input is a JSON array [salt, {group: weight, …}, user]; out come the groups.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The least -ln(u)/weight wins; u, in (0, 1], is drawn by salt, group and user. */
export function groupOf(salt, weights, user) {
  const draw = (group) => {
    const digest = createHash("sha256").update(`v1:${salt}:${group}:${user}`, "utf8").digest();
    return (Number(digest.readBigUInt64BE(0)) + 0.5) / 2 ** 64;
  };
  const arms = Object.entries(weights).filter(([, weight]) => weight > 0);
  const scores = arms.map(([group, weight]) => [-Math.log(draw(group)) / weight, group]);
  return scores.sort(([a, g], [b, h]) => a - b || (g < h ? -1 : 1))[0][1];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for await (const line of createInterface({ input: process.stdin })) console.log(groupOf(...JSON.parse(line)));
}
