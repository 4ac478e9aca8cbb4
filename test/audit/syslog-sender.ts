// Records decisions for a syslog receiver and a database until it is killed, and prints the id of each that is on disk.
import { syslogSinkSchema } from '../../src/audit/sink/sink-settings.ts';
import { decision, openLog } from './audit-fixture.ts';

const [directory, url, address, caFile] = process.argv.slice(2);
const syslog = syslogSinkSchema.parse({ address, ca_file: caFile, confirm_seconds: 0.1 });
const log = await openLog(directory!, { database: { url: url! }, sinks: { syslog } });
for (let number = 1; ; number += 8) {
  const group = Array.from({ length: 8 }, (_, index) => log.record(decision(number + index)));
  for (const { event_id: id } of await Promise.all(group)) process.stdout.write(`${id}\n`);
}
