// The load generator of the benchmarks: one process, told over IPC what to do, which verifies every byte.
import { bulk, idle, opens, pacedOpens, pings, requests, stalled, type LoadCommand } from './loads.ts';

const run = (command: LoadCommand): Promise<unknown> => {
  switch (command.load) {
    case 'bulk':
      return bulk(command);
    case 'requests':
      return requests(command);
    case 'opens':
      return opens(command);
    case 'paced_opens':
      return pacedOpens(command);
    case 'pings':
      return pings(command);
    case 'stalled':
      return stalled(command);
    case 'idle':
      return idle(command);
  }
};

process.on('message', (message) => {
  const { id, command } = message as { id: number; command: LoadCommand };
  run(command).then(
    (result) => process.send?.({ id, result }),
    (error: unknown) =>
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
});
process.on('disconnect', () => process.exit(0));
