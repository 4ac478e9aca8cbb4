// `npm run bench [-- --only NAME,NAME] [--tunnels NAME,NAME] [--starts N] [--json FILE]`
// `npm run bench -- --profile DIR --only NAME`: one run of the product alone, with CPU profiles.
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Generator, startTarget } from './load/generator.ts';
import { describeMachine } from './machine.ts';
import { summarizeProfiles } from './profile.ts';
import { type ScenarioResult, type Series, tableOf } from './results.ts';
import { measureActivation } from './scenarios/activation.ts';
import { measureRevocation } from './scenarios/revocation.ts';
import { measureRevocationOverNodes } from './scenarios/revocation-nodes.ts';
import type { Measurement, ProductScenario, Scenario } from './scenarios/scenario.ts';
import { SCENARIOS } from './scenarios/scenarios.ts';
import { measureStartUp } from './scenarios/start-up.ts';
import { direct } from './tunnels/direct.ts';
import { pipes, tlsPipes } from './tunnels/pipes.ts';
import { profiled, profileInto, removeSharedState, sallyport } from './tunnels/sallyport.ts';
import { sshBoth, sshReverse } from './tunnels/ssh.ts';
import type { TunnelKind } from './tunnels/tunnel.ts';

const DEFAULT_STARTS = 3;
const KINDS: readonly TunnelKind[] = [direct, pipes, tlsPipes, sshReverse, sshBoth, sallyport];
const PRODUCT_SCENARIOS: readonly ProductScenario[] = [
  {
    name: 'revoke',
    description: 'from the revoke request to the last byte of 200 moving streams, 50 more on the other slot',
    headline: { metric: 'last_byte_ms', better: 'lower' },
    measureProduct: measureRevocation,
  },
  {
    name: 'revoke-nodes',
    description:
      'from the revoke request to the last byte of each of 500 moving streams, at the later of both ends; two relay nodes, 20 revocations, 500 more streams on another key',
    headline: { metric: 'p99_ms', better: 'lower' },
    measureProduct: measureRevocationOverNodes,
  },
  {
    name: 'activation',
    description:
      '10,000 live streams, a signed policy that denies 300 of them: from its activation to each reset, ping meanwhile; then one that would close 3,000, held and confirmed',
    headline: { metric: 'reset_max_ms', better: 'lower' },
    measureProduct: measureActivation,
  },
  {
    name: 'start-up',
    description:
      'from the start of `sallyport up` to the first byte, on new state (first) and on old (later)',
    headline: { metric: 'later_first_byte_ms', better: 'lower' },
    measureProduct: measureStartUp,
  },
];

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    tunnels: { type: 'string' },
    starts: { type: 'string', default: String(DEFAULT_STARTS) },
    json: { type: 'string' },
    profile: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
});

const chosen = <T extends { readonly name: string }>(all: readonly T[], names: string | undefined): T[] => {
  if (names === undefined) return [...all];
  return names.split(',').map((name) => {
    const found = all.find((item) => item.name === name);
    if (found === undefined) {
      throw new Error(`no ${JSON.stringify(name)}; there are: ${all.map((item) => item.name).join(', ')}`);
    }
    return found;
  });
};

/** One run: a fresh target, generator and tunnel, which all end with it. */
const runOnce = async (scenario: Scenario, kind: TunnelKind): Promise<Measurement> => {
  const target = await startTarget();
  try {
    const tunnel = await kind.open(target.port);
    const generator = new Generator();
    try {
      return await scenario.measure(tunnel, generator);
    } finally {
      await generator.close();
      await tunnel.close();
    }
  } finally {
    await target.close();
  }
};

const rotated = <T>(items: readonly T[], by: number): T[] => {
  const at = by % Math.max(1, items.length);
  return [...items.slice(at), ...items.slice(0, at)];
};

interface Runner {
  readonly name: string;
  unavailable(): string | undefined;
  run(): Promise<Measurement>;
}

/** Runs everything `starts` times, interleaved, in an order that changes from start to start. */
const runAll = async (
  scenario: Pick<Scenario, 'name' | 'description' | 'headline'>,
  runners: readonly Runner[],
  starts: number,
): Promise<ScenarioResult> => {
  const runs = new Map<string, Measurement[]>(runners.map((runner) => [runner.name, []]));
  const failures = new Map<string, string>();
  for (let start = 0; start < starts; start++) {
    for (const runner of rotated(runners, start)) {
      const unavailable = runner.unavailable();
      if (unavailable !== undefined) {
        failures.set(runner.name, unavailable);
        continue;
      }
      const label = `${scenario.name} · start ${start + 1} · ${runner.name}`;
      try {
        const measurement = await runner.run();
        runs.get(runner.name)?.push(measurement);
        console.error(`${label} · ${JSON.stringify(measurement)}`);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        failures.set(runner.name, message.split('\n')[0] ?? message);
        console.error(`${label} · FAILED: ${message}`);
      }
    }
  }
  const series = runners.map((runner): Series => {
    const failure = failures.get(runner.name);
    return {
      tunnel: runner.name,
      runs: runs.get(runner.name) ?? [],
      ...(failure === undefined ? {} : { failure }),
    };
  });
  const { name, description, headline } = scenario;
  return { name, description, headline, series };
};

const runScenario = (
  scenario: Scenario | ProductScenario,
  kinds: readonly TunnelKind[],
  starts: number,
): Promise<ScenarioResult> => {
  if ('measureProduct' in scenario) {
    const run = (): Promise<Measurement> => scenario.measureProduct();
    return runAll(scenario, [{ name: sallyport.name, unavailable: () => undefined, run }], starts);
  }
  const runners = kinds.map((kind) => ({
    name: kind.name,
    unavailable: () => kind.unavailable(),
    run: () => runOnce(scenario, kind),
  }));
  return runAll(scenario, runners, starts);
};

const ALL: readonly (Scenario | ProductScenario)[] = [...SCENARIOS, ...PRODUCT_SCENARIOS];

const main = async (): Promise<void> => {
  if (values.list) {
    for (const { name, description } of ALL) console.log(`${name.padEnd(14)} ${description}`);
    return;
  }
  const scenarios = chosen(ALL, values.only);
  const kinds = chosen(KINDS, values.tunnels);
  if (values.profile !== undefined) {
    for (const scenario of scenarios) {
      const directory = resolve(values.profile, scenario.name);
      mkdirSync(directory, { recursive: true });
      profileInto(directory);
      const result = await runScenario(scenario, [sallyport], 1);
      console.log(tableOf(result, sallyport.name));
      console.log(summarizeProfiles(directory, profiled));
    }
    return;
  }
  const machine = describeMachine();
  console.log(
    Object.entries(machine)
      .map(([name, value]) => `- ${name}: ${value}`)
      .join('\n'),
  );
  console.log();
  const results: ScenarioResult[] = [];
  for (const scenario of scenarios) {
    const result = await runScenario(scenario, kinds, Number(values.starts));
    results.push(result);
    console.log(tableOf(result, pipes.name));
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify({ machine, results }, undefined, 2)}\n`);
    }
  }
  if (results.some((result) => result.series.some((series) => series.runs.length < Number(values.starts)))) {
    process.exitCode = 1;
  }
};

try {
  await main();
} finally {
  removeSharedState();
}
