import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot, runCommand } from '../support/command.ts';

/** Runs a program to its end; an error with all that it said when it fails. */
export const mustRun = async (program: string, args: readonly string[]): Promise<void> => {
  const { code, stdout, stderr } = await runCommand(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit ${code}\n${stdout}\n${stderr}`);
};

/** Builds once more what a program of tools/ makes, if its sources have changed since. */
export const buildTool = (tool: string, ...args: readonly string[]): Promise<void> =>
  mustRun(process.execPath, [join(projectRoot, 'tools', tool), ...args]);

/** For a family's `missing`: how to make what a program of tools/ has not made yet; `file` from the checkout. */
export const missingTool = (file: string, tool: string): string | false =>
  !existsSync(join(projectRoot, file)) && `run node tools/${tool}`;
