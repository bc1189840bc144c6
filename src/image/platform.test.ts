import assert from 'node:assert/strict'
import { test } from 'node:test'
import { goArchitecture } from './image.ts'
import { choosePlatform, formatPlatform, matchesPlatform, parsePlatform } from './platform.ts'

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

test('of an index, what runs best is chosen', () => {
  const index = (...texts: string[]) => texts.map((text) => ({ text, ...(text && { platform: { ...parsePlatform(text.replace('+', '')), ...(text.endsWith('+') && { variant: 'v8' }) } }) }))
  const choose = (wanted: string | undefined, ...texts: string[]) => choosePlatform(index(...texts), wanted === undefined ? undefined : parsePlatform(wanted))?.text
  assert.equal(choose('linux/arm/v7', 'linux/amd64', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm64'), 'linux/arm/v6')
  assert.equal(choose('linux/arm', 'linux/arm/v5', 'linux/arm/v7'), 'linux/arm/v7')
  assert.equal(choose('linux/arm/v6', 'linux/arm/v7'), undefined)
  assert.equal(choose('linux/arm64', 'linux/amd64', 'linux/arm64+'), 'linux/arm64+')
  assert.equal(choose('linux/amd64', 'linux/amd64/v3', 'linux/amd64'), 'linux/amd64')
  assert.equal(choose('linux/amd64', 'linux/amd64/v3'), undefined)
  assert.equal(choose('linux/amd64/v3', 'linux/amd64', 'linux/amd64/v2'), 'linux/amd64/v2')
  assert.equal(choose('linux/s390x', 'linux/amd64', ''), '')
  assert.equal(choose(undefined, 'linux/s390x', `linux/${goArchitecture}`), `linux/${goArchitecture}`)
})
