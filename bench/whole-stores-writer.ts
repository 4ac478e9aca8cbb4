// A writer of whole-stores-process.ts: records streams as fast as they get to disk, prints how many events have, and ends in
// order on SIGTERM.
import { join } from 'node:path';
import { decision, ending, openLog } from '../test/audit/audit-fixture.ts';

const [kind = 'agent', directory = '', url = ''] = process.argv.slice(2);
const GROUP_STREAMS = 100;
/** Groups under way: how deep an agent under load queues. */
const GROUPS = 4;
const DRAIN_MS = 600_000;

const log = await openLog(directory, {
  database: { url },
  trustFile: join(directory, '..', 'trust.json'),
  origin: {
    kind: kind === 'relay' ? 'relay' : 'agent',
    name: `${kind}-1`,
    instance: `instance-${process.pid}`,
    namespace: 'relay.example.com',
    version: '0.1.0',
    zone: 'Europe/Berlin',
  },
});
let stopping = false;
process.once('SIGTERM', () => (stopping = true));
let recorded = 0;
let stream = process.pid * 1_000_000;
const group = async (): Promise<void> => {
  while (!stopping) {
    const numbers = Array.from({ length: GROUP_STREAMS }, () => (stream += 1));
    await Promise.all(numbers.map((number) => log.record(decision(number, number % 20 !== 0))));
    await Promise.all(
      numbers.filter((number) => number % 20 !== 0).map((number) => log.record(ending(number))),
    );
    recorded += 2 * GROUP_STREAMS - GROUP_STREAMS / 20;
    process.stdout.write(`${recorded}\n`);
  }
};
await Promise.all(Array.from({ length: GROUPS }, group));
await log.flush(DRAIN_MS);
await log.close();
