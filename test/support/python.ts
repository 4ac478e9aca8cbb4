import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from './command.ts';

/** Python with the packages of tools/python/requirements.txt. */
export const PYTHON = join(projectRoot, '.tools/python/bin/python');

/** Why there is none, or false. */
export const pythonMissing: string | false = existsSync(PYTHON)
  ? false
  : 'missing Python with its packages (node tools/build-python-tools.mjs installs it)';
