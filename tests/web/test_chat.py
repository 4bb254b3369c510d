"""The chat of the playground in a real browser, against the real server."""

from __future__ import annotations

import re

import pytest

from tests.support.browser import Window
from tests.support.server import Server

pytestmark = pytest.mark.anyio


async def test_message_is_answered_and_the_thread_gets_its_title(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("count 60 every 10")
    await page.answer("60").wait_for()
    await page.idle()
    assert await page.texts() == ["count 60 every 10", " ".join(map(str, range(1, 61)))]
    await page.page.locator(".item .title", has_text="count 60 every 10").wait_for()
    assert "#/threads/" in page.page.url


async def test_stop_keeps_what_was_written_and_the_composer_as_it_is(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("hang for ever")
    await page.answer("hang").wait_for()
    await page.composer.fill("half a thought")
    await page.page.get_by_role("button", name="Stop", exact=True).click()
    await page.page.get_by_text("Stopped.", exact=True).first.wait_for()
    assert await page.texts() == ["hang for ever", "hang"]
    assert await page.composer.input_value() == "half a thought"


async def test_message_sent_during_a_run_waits_its_turn(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("count 250 every 20")
    await page.answer("1 2").wait_for()
    await page.say("and this")
    await page.page.get_by_text("Waits for its turn").wait_for()
    await page.answer("and this").wait_for()
    await page.idle()
    assert (await page.texts())[2:] == ["and this", "and this"]


async def test_failed_run_says_why_and_the_thread_goes_on(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("fail now")
    await page.page.get_by_role("alert").filter(has_text="scripted failure").wait_for()
    await page.say("go on")
    await page.answer("go on").wait_for()
    await page.page.get_by_role("alert").filter(has_text="scripted failure").wait_for(state="detached")


async def test_edit_answer_again_and_switch_branches(page: Window, server: Server) -> None:
    await page.open(server.url, "assistant")
    await page.say("What is 2 + 3?")
    await page.answer(re.compile(r"\b5\b")).wait_for()
    await page.idle()
    await page.user("What is 2 + 3?").hover()
    await page.page.get_by_role("button", name="Edit", exact=True).click()
    await page.page.get_by_label("Edit the message").fill("What is 20 + 30?")
    await page.page.locator(".editing").get_by_role("button", name="Send").click()
    await page.answer(re.compile(r"\b50\b")).wait_for()
    await page.idle()
    assert await page.user().count() == 1
    await page.user().locator(".branches").filter(has_text="2 / 2").wait_for()
    await page.page.get_by_role("button", name="Branch before").first.click()
    await page.user("What is 2 + 3?").wait_for()
    await page.user().locator(".branches").filter(has_text="1 / 2").wait_for()
    await page.page.get_by_role("button", name="Next branch").first.click()
    await page.user("What is 20 + 30?").wait_for()
    await page.page.get_by_role("button", name="Answer again").last.click()
    await page.page.locator(".message.assistant .branches").filter(has_text="2 / 2").wait_for()
    await page.idle()


async def test_agents_of_chat_models_take_edits_too_and_are_told_what_tools_give(
    page: Window, server: Server
) -> None:
    await page.open(server.url, "model")
    await page.say("one")
    await page.answer("You said one.").wait_for()
    await page.idle()
    await page.user("one").hover()
    await page.page.get_by_role("button", name="Edit", exact=True).click()
    await page.page.get_by_label("Edit the message").fill("two")
    await page.page.locator(".editing").get_by_role("button", name="Send").click()
    await page.answer("You said two.").wait_for()
    await page.idle()
    assert await page.texts() == ["two", "You said two."]
    await page.page.get_by_role("button", name="Branch before").first.click()
    await page.answer("You said one.").wait_for()
    await page.user().locator(".branches").filter(has_text="1 / 2").wait_for()
    await page.page.get_by_role("button", name="Answer again").last.click()
    await page.page.locator(".message.assistant .branches").filter(has_text="2 / 2").wait_for()
    await page.idle()
    await page.say("pick")
    tool = page.page.locator(".tool.waiting", has_text="pick_a_card")
    await tool.get_by_label("Result of pick_a_card").fill("queen of hearts")
    await tool.get_by_role("button", name="Answer", exact=True).click()
    await page.page.locator(".tool.done", has_text="pick_a_card").wait_for()
    await page.idle()
    await page.say("hang")
    await page.answer("You said hang.").wait_for()
    await page.page.get_by_role("button", name="Stop", exact=True).click()
    await page.page.get_by_text("Stopped here.").wait_for()


async def test_functions_that_keep_one_course_offer_no_edits(page: Window, server: Server) -> None:
    await page.open(server.url, "writer")
    await page.say("one")
    await page.answer("one").wait_for()
    await page.idle()
    await page.user("one").hover()
    await page.user("one").get_by_role("button", name="Copy").wait_for()
    assert await page.page.get_by_role("button", name="Edit", exact=True).count() == 0
    assert await page.page.get_by_role("button", name="Answer again").count() == 0


async def test_tools_show_what_they_were_called_with_and_gave(page: Window, server: Server) -> None:
    await page.open(server.url, "assistant")
    await page.say("How far is it from Lisbon to Oslo?")
    tool = page.page.locator(".tool.done", has_text="distance")
    await tool.wait_for()
    await page.idle()
    await tool.get_by_role("button").first.click()
    await tool.get_by_text('"Lisbon"').first.wait_for()
    await tool.get_by_role("heading", name="Result").wait_for()


async def test_approval_is_asked_for_and_given_changed_or_refused(page: Window, server: Server) -> None:
    await page.open(server.url, "assistant")
    await page.say("Send a postcard to Ada that says: Hello")
    await page.page.get_by_role("button", name="Change…").click()
    field = page.page.get_by_label("Arguments, as JSON")
    await field.fill("{")
    await page.page.get_by_role("button", name="Approve as changed").click()
    await page.page.get_by_text("This is no JSON.").wait_for()
    await field.fill('{"to": "Bob", "text": "Changed words"}')
    await page.page.get_by_role("button", name="Approve as changed").click()
    await page.page.locator(".tool.done", has_text="send_postcard").wait_for()
    await page.idle()
    await page.row("postcards").wait_for()
    await page.page.locator(".row", has_text="Changed words").first.wait_for()
    await page.say("Send a postcard to Eve that says: Bye")
    await page.page.get_by_role("button", name="Refuse…").click()
    await page.page.get_by_label("Why not?").fill("not today")
    await page.page.get_by_role("button", name="Refuse", exact=True).click()
    await page.page.locator(".tool").nth(1).wait_for()
    await page.idle()
    assert await page.page.locator(".tool.asking").count() == 0


async def test_question_is_answered(page: Window, server: Server) -> None:
    await page.open(server.url, "asker")
    await page.say("ask")
    question = page.page.get_by_role("group", name="The agent asks")
    await question.get_by_text("Which number?").wait_for()
    await question.get_by_label("as JSON").check()
    await question.get_by_label("Your answer").fill("17")
    await question.get_by_role("button", name="Answer").click()
    await page.answer("The answer is 17.").wait_for()
    await question.wait_for(state="detached")


async def test_tool_of_the_browser_is_executed_and_others_are_answered_by_hand(
    page: Window, server: Server
) -> None:
    await page.open(server.url, "asker")
    await page.say("browser")
    await page.answer("time_zone").wait_for()
    await page.say("card")
    question = page.page.get_by_role("group", name="The agent calls pick_a_card")
    await question.get_by_label("Result of pick_a_card").fill("queen of hearts")
    await question.get_by_role("button", name="Answer").click()
    await page.answer("queen of hearts").wait_for()


async def test_attached_files_travel_with_the_message(page: Window, server: Server) -> None:
    await page.open(server.url, "assistant")
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
    )
    async with page.page.expect_file_chooser() as chooser:
        await page.page.get_by_role("button", name="Attach a file").click()
    await (await chooser.value).set_files({"name": "dot.png", "mimeType": "image/png", "buffer": png})
    await page.page.locator(".attached", has_text="dot.png").wait_for()
    await page.say("Look at this")
    await page.user().locator("img.picture").wait_for()
    await page.idle()
    await page.user().locator("img.picture").wait_for()


async def test_drafts_are_kept_for_each_thread_and_through_reloads(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("first")
    await page.answer("first").wait_for()
    await page.composer.fill("for the first")
    await page.page.get_by_role("button", name="New thread").click()
    await page.until("document.querySelector('.composer-input').value === ''")
    await page.composer.fill("for a new one")
    await page.page.locator(".item", has_text="first").first.click()
    await page.until("document.querySelector('.composer-input').value === 'for the first'")
    # Not a key is lost, however soon the page is left.
    await page.composer.press("End")
    await page.page.keyboard.type(", and on")
    await page.page.reload()
    await page.until("document.querySelector('.composer-input').value === 'for the first, and on'")
    await page.page.get_by_role("button", name="New thread").click()
    await page.until("document.querySelector('.composer-input').value === 'for a new one'")
    await page.composer.press("Enter")
    await page.answer("for a new one").wait_for()
    await page.page.get_by_role("button", name="New thread").click()
    await page.page.get_by_role("heading", name=re.compile("Talk to")).wait_for()
    assert await page.composer.input_value() == ""


async def test_threads_are_renamed_archived_restored_and_deleted(page: Window, server: Server) -> None:
    await page.open(server.url, "scripted")
    await page.say("a thread to tidy up")
    await page.answer("tidy").wait_for()
    item = page.page.locator(".item[data-active]")
    await item.filter(has_text="a thread to tidy up").hover()
    await item.get_by_role("button", name="Rename").click()
    await page.page.get_by_label("Title of the thread").fill("Tidied")
    await page.page.get_by_label("Title of the thread").press("Enter")
    await page.page.locator(".item .title", has_text="Tidied").hover()
    await page.page.get_by_role("button", name="Archive Tidied").click()
    await page.page.get_by_role("button", name=re.compile("Archived")).click()
    await page.page.locator(".item", has_text="Tidied").hover()
    await page.page.get_by_role("button", name="Restore Tidied").click()
    await page.page.get_by_role("button", name=re.compile("Archived")).wait_for(state="detached")
    await page.page.locator(".item", has_text="Tidied").hover()
    await page.page.get_by_role("button", name="Delete Tidied").click()
    await page.page.get_by_role("button", name="Delete", exact=True).click()
    await page.page.locator(".item", has_text="Tidied").wait_for(state="detached")
    await page.page.get_by_role("heading", name=re.compile("Talk to|Begin")).wait_for()
