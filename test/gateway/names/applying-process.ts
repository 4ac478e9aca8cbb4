import { applyNames, previewNames, removeNames } from '../../../src/gateway/index.ts';
import { systemClock } from '../../../src/runtime/index.ts';

// FILE NAME ROUNDS: applies and removes the block of gateway NAME, and leaves it applied.
const [file = '', name = '', rounds = ''] = process.argv.slice(2);
const config = {
  namespace: 'relay.example.com',
  name,
  state_dir: `${file}.state-${name}`,
  connections: [{ name: 'db', target: `${name}.corp.example:5432`, transparent: true }],
};
const hosts = previewNames(config, '', systemClock);
for (let round = 0; round < Number(rounds); round += 1) {
  const removed = await removeNames(file, config, systemClock);
  if (round > 0 && !removed.changed)
    throw new Error(`another gateway has taken the block away by round ${round}`);
  const applied = await applyNames(file, config, hosts, systemClock);
  if (!applied.changed) throw new Error(`another gateway has put the block back in round ${round}`);
}
