/** What the named queries take on a store, and how that grows with the store. */
import { AuditReader, NAMED_QUERIES, runNamedQuery } from '../src/audit/index.ts';
import { systemClock } from '../src/runtime/index.ts';

/** Of the generated stores: a target, a key and an agent that are in each. */
const GIVEN: Readonly<Record<string, string>> = {
  target: 'server-7.corp.example',
  key: `k_${'7'.padStart(20, '0')}`,
  agent: 'agent-1',
  before: '2',
  after: '3',
};

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Milliseconds of each question, over all the store and, where it takes an interval, over a part. */
export const timeQuestions = async (
  owner: string,
  partName: string,
  part: { readonly from: string; readonly to: string },
): Promise<Map<string, number>> => {
  const reader = await AuditReader.connect(owner);
  const took = new Map<string, number>();
  for (const query of NAMED_QUERIES) {
    const names = query.parameters.map(({ name }) => name);
    const times: Readonly<Record<string, Readonly<Record<string, string>>>> = names.includes('from')
      ? { 'all time': { from: '-infinity', to: 'infinity' }, [partName]: part }
      : { 'all time': { since: '-infinity' } };
    for (const [label, time] of Object.entries(times)) {
      const given = Object.fromEntries(
        Object.entries({ ...GIVEN, ...time }).filter(([name]) => names.includes(name)),
      );
      const started = performance.now();
      try {
        await runNamedQuery(reader, query, given, systemClock);
        took.set(`${query.name} | ${label}`, performance.now() - started);
      } catch (error) {
        say(`${query.name}, ${label}: ${String(error)}`);
      }
    }
  }
  await reader.close();
  return took;
};

/** What was taken at each size, and the exponent between the first and the last. */
export interface Sized {
  readonly events: number;
  readonly took: ReadonlyMap<string, number>;
}

/** Prints a table of what grows how: `took` in milliseconds. */
export const showGrowth = (results: readonly Sized[]): void => {
  say(`\n| what | of | ${results.map(({ events }) => `ms at ${events}`).join(' | ')} | exponent |`);
  say(`|---|---|${results.map(() => '---|').join('')}---|`);
  const [first, last] = [results[0], results.at(-1)];
  for (const name of first?.took.keys() ?? []) {
    const [small, large] = [first?.took.get(name) ?? Number.NaN, last?.took.get(name) ?? Number.NaN];
    const exponent = Math.log(large / small) / Math.log((last?.events ?? 1) / (first?.events ?? 1));
    const cells = results.map(({ took }) => (took.get(name) ?? Number.NaN).toFixed(0));
    say(`| ${name} | ${cells.join(' | ')} | ${exponent.toFixed(2)} |`);
  }
};
