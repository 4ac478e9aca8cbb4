// Records decisions and makes checkpoints as fast as it can, until it is killed.
import { checkpointPlaces } from './checkpoint-fixture.ts';
import { decision, openLog } from './audit-fixture.ts';

const EVERY_MS = 5;
const [directory, url, file] = process.argv.slice(2);
const checkpoints = { ...checkpointPlaces(file!), everyMs: EVERY_MS };
const log = await openLog(directory!, { database: { url: url! }, checkpoints });
for (let number = 1; ; number += 1) {
  await log.record(decision(number));
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
}
