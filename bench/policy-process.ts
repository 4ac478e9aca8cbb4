// Cost of a policy decision through the engine pool: latency at a fixed rate, and the highest rate.
//   node --import tsx bench/policy-process.ts [GRANTS] [RATE] [SECONDS]
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  decide,
  DEFAULT_BUNDLE_FILE,
  developmentBundle,
  type GuardSettings,
  PolicyHost,
  type PolicyInputBase,
} from '../src/policy/index.ts';
import { silentLogger, systemClock } from '../src/runtime/index.ts';

const [grants = 10_000, rate = 1_000, seconds = 5] = process.argv.slice(2).map(Number);
const CONNECTION = 'orders';
const MAX_IN_FLIGHT = 256;

const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
const bundleFile = join(directory, 'bundle.tar.gz');
const dataFile = join(directory, 'grants.json');
const target = { host: 'db.example', port: 5432 };

const principal = (number: number): string => `app-${String(number)}`;
const grant = (number: number): object => ({
  id: `grant-${String(number)}`,
  owner: 'bench',
  expires: '2099-12-31',
  target,
  sources: ['203.0.113.0/24'],
  limits: { max_seconds: 3_600 },
});
const byPrincipal = Object.fromEntries(
  Array.from({ length: grants }, (_, at) => [principal(at), [grant(at)]]),
);
writeFileSync(dataFile, JSON.stringify({ [CONNECTION]: byPrincipal }));
const connections = [{ name: CONNECTION, ...target }];
writeFileSync(bundleFile, developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), connections));

const party = (name: string, claim: string): NonNullable<PolicyInputBase['key']> => ({
  kind: 'sas',
  id: 'k_bench',
  principal: name,
  // Another auth-rule than the principal, so that the development rule does not match and the grant decides.
  auth_rule: 'bench',
  slot: 'primary',
  claims: [claim],
  proved_by: 'relay',
});

const inputOf = (number: number): PolicyInputBase => ({
  v: 1,
  action: 'stream',
  namespace: 'relay.example.com',
  connection: { name: CONNECTION, id: 'c_bench', labels: {} },
  target: { ...target, addresses: ['10.1.2.3'] },
  key: party(principal(number % grants), 'Send'),
  listener: party('defaultListener', 'Listen'),
  source: {
    gateway: 'gw',
    gateway_proved: false,
    address: '203.0.113.9',
    claimed: { address: '10.0.0.1', port: 5 },
  },
  agent: { name: 'agent', instance: 'i', labels: { site: 'bench' }, version: '0' },
  relay: { node: 'n1' },
  link: { id: 'l', carrier: 'tcp' },
  stream: { id: `s-${String(number)}`, kind: 'tcp', attempt: 1 },
  usage: { principal: { streams: 1 }, connection: { streams: 1 }, agent: { streams: 1 } },
  managed: { require_proof: false },
  time: {
    unix_ms: 1_800_000_000_000,
    rfc3339: '2027-01-15T08:00:00Z',
    local: { date: '2027-01-15', weekday: 'fri', hour: 9, minute: 0, zone: 'Europe/Berlin' },
  },
});

const guard: GuardSettings = { allowLoopbackPorts: new Set(), ownListeners: [], allowAuditDatabase: false };

const loadedMs = performance.now();
const host = await PolicyHost.open({
  source: { file: bundleFile },
  dataFile,
  clock: systemClock,
  logger: silentLogger,
});
const openMs = performance.now() - loadedMs;

let number = 0;
let denied = 0;
const evalUs: number[] = [];
const ask = async (): Promise<number> => {
  const startedMs = performance.now();
  const decision = await decide(host, inputOf((number += 1)), guard);
  if (!decision.allow) denied += 1;
  else evalUs.push(decision.eval_us);
  return (performance.now() - startedMs) * 1_000;
};

const percentile = (sorted: readonly number[], share: number): number =>
  Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN);

/** Arrivals in a Poisson process of a fixed mean rate; whatever falls due in one loop turn starts together. */
const atRate = async (perSecond: number, forMs: number): Promise<number[]> => {
  const latencies: number[] = [];
  const pending: Promise<void>[] = [];
  const gapMs = (): number => (-Math.log(1 - Math.random()) * 1_000) / perSecond;
  const beganMs = performance.now();
  let dueMs = beganMs + gapMs();
  while (performance.now() - beganMs < forMs) {
    while (dueMs <= performance.now()) {
      pending.push(ask().then((us) => void latencies.push(us)));
      dueMs += gapMs();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(pending);
  return latencies.sort((a, b) => a - b);
};

const atFullRate = async (forMs: number): Promise<number> => {
  const beganMs = performance.now();
  let count = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - beganMs < forMs) {
      await ask();
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: MAX_IN_FLIGHT }, loop));
  return Math.round((count * 1_000) / (performance.now() - beganMs));
};

await atRate(rate, 1_000);
evalUs.length = 0;
const latencies = await atRate(rate, seconds * 1_000);
const engineUs = [...evalUs].sort((a, b) => a - b);
const usage = process.cpuUsage();
const perSecond = await atFullRate(seconds * 1_000);
const used = process.cpuUsage(usage);
const result = {
  node: process.version,
  grants,
  rate,
  open_ms: Math.round(openMs),
  decisions: latencies.length,
  p50_us: percentile(latencies, 0.5),
  p99_us: percentile(latencies, 0.99),
  engine_p50_us: percentile(engineUs, 0.5),
  engine_p99_us: percentile(engineUs, 0.99),
  max_per_second: perSecond,
  cpu_us_per_decision_at_max: Math.round((used.user + used.system) / (perSecond * seconds)),
  denied,
  engine: host.status().engine,
};
console.log(JSON.stringify(result, null, 2));
await host.close();
rmSync(directory, { recursive: true, force: true });
