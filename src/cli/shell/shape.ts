import type { Argument, Command, Option } from 'commander';

export interface OptionShape {
  /** As help shows it: `-c, --config <file>`. */
  readonly flags: string;
  /** `-c`, `--config`: what may be typed. */
  readonly words: readonly string[];
  readonly description: string;
  /** What follows it; undefined for a switch. */
  readonly value: ValueShape | undefined;
}

export interface ArgumentShape extends ValueShape {
  /** `<dir>`, `[name...]` */
  readonly usage: string;
  readonly description: string;
}

interface ValueShape {
  readonly isPath: boolean;
  /** All that it may be; empty: anything. */
  readonly choices: readonly string[];
}

/** One command of the program, as completions and the manual page need it. */
export interface CommandShape {
  /** Words after `sallyport`; none for the program itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly options: readonly OptionShape[];
  readonly arguments: readonly ArgumentShape[];
  readonly commands: readonly CommandShape[];
}

/** Names of values in help that stand for something in the file system. */
const PATH_NAME = /^(name=)?(file|dir|directory|path|bundle|source|a|b)(\||\.\.\.|$)/;
const VALUE_NAME = /[<[]([^>\]]+)[>\]]/;

const valueOf = (name: string, choices: readonly string[] | undefined): ValueShape => ({
  isPath: PATH_NAME.test(name),
  choices: choices ?? [],
});

const optionShape = ({ flags, short, long, description, argChoices }: Option): OptionShape => {
  const name = VALUE_NAME.exec(flags)?.[1];
  return {
    flags,
    words: [short, long].filter((word) => word !== undefined),
    description,
    value: name === undefined ? undefined : valueOf(name, argChoices),
  };
};

const argumentShape = (argument: Argument): ArgumentShape => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
  return {
    usage: argument.required ? `<${name}>` : `[${name}]`,
    description: argument.description,
    ...valueOf(name, argument.argChoices),
  };
};

const HELP: OptionShape = {
  flags: '-h, --help',
  words: ['-h', '--help'],
  description: 'show what it does, takes and connects to',
  value: undefined,
};

/** The command and all below it, in the order of help. */
export const shapeOf = (command: Command, path: readonly string[] = []): CommandShape => ({
  path,
  summary: command.summary() || command.description(),
  description: command.description(),
  options: [...command.options.filter(({ hidden }) => !hidden).map(optionShape), HELP],
  arguments: command.registeredArguments.map(argumentShape),
  commands: command.commands.map((child) => shapeOf(child, [...path, child.name()])),
});

/** The command and all below it, each before its own. */
export const flatten = (shape: CommandShape): CommandShape[] => [shape, ...shape.commands.flatMap(flatten)];
