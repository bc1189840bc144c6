import assert from 'node:assert/strict'
import { test } from 'node:test'
import { goArchitecture } from './image.ts'
import { formatPlatform, matchesPlatform, parsePlatform } from './platform.ts'

test('platforms are read in all of the forms that people write', () => {
  for (const [text, platform] of [['linux', `linux/${goArchitecture}`], ['arm64', 'linux/arm64'], ['linux/aarch64', 'linux/arm64'], ['linux/arm64/v8', 'linux/arm64'], ['linux/armhf', 'linux/arm/v7'], ['Windows/x86_64', 'windows/amd64'], ['linux/arm/v6', 'linux/arm/v6']] as const)
    assert.equal(formatPlatform(parsePlatform(text)), platform)
  for (const text of ['nosuch', 'a/b/c/d', 'linux/', '/amd64', 'li nux/amd64', '']) assert.throws(() => parsePlatform(text), /cannot parse platform specifier/)
})

test('a variant that nobody names matches every one', () => {
  const matches = (image: string, wanted: string) => matchesPlatform(parsePlatform(image), parsePlatform(wanted))
  assert.equal(matches('linux/arm/v7', 'linux/arm'), true)
  assert.equal(matches('linux/arm/v7', 'linux/arm/v6'), false)
  assert.equal(matches('linux/amd64', 'linux/arm64'), false)
})
