"""The public names: adding or removing one is a decision, and each says what it is."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import threadwire
import threadwire.client

PUBLIC = {
    threadwire: """
        AddMessage AddToolResult Agent AgentError Application AudioPart Command CommandError
        ConnectionClosed DataPart ErrorInfo FilePart FunctionAgent ImagePart InvalidOperation
        InvalidValue Limits Part ProtocolError Refused Regenerate Resume Run RunEnded StoreError
        StoreUnavailable SwitchBranch TextPart ThreadwireError UserMessage __version__ agent create_app
    """,
    threadwire.client: """
        AbortSignal AddMessage AddToolResult AddToolResultOptions AppendMessage
        AssistantMessagePart AssistantMetadata AssistantTransportOverHttp
        AssistantTransportRuntime AttachmentAdapter AudioData AudioMessagePart Backoff
        BranchChange Capabilities ChatModelAdapter ChatModelRunOptions ChatModelRunResult
        ClientError Command CommandError CompleteAttachment CompleteStatus Composer
        CompositeAttachmentAdapter Connection ConnectionClosed ConnectionMetadata ConvertConfig
        ConverterMetadata DataMessagePart DataStreamError DataStreamMessage DataStreamModel
        DictationAdapter DictationResult EditComposer ExportedMessageRepository
        ExternalMessageConverter ExternalStoreAdapter ExternalStoreRuntime ExternalThread
        ExternalThreadList ExternalThreadListAdapter FeedbackAdapter File FileMessagePart
        GenerativeUIMessagePart HistoryAdapter ImageMessagePart IncompleteStatus
        InitializedThread InvalidAdapter InvalidMessage LangChainConverter LikeMetadata Limits
        LoadedHistory LocalAdapters LocalRuntime MessageMetadata MessageNotSent MessageQueue
        MessageRepository MessageStatus MessageTiming ModelContext NotFound NotNow NotSupported
        PendingAttachment PendingCommand Position QueueItem ReasoningMessagePart Receipt Refused
        Regenerate RemoteThread RemoteThreadListAdapter RepositoryItem RequiresActionStatus
        Resume ResumeRun RunAborted RunInfo RunningStatus RuntimeAdapters ServerThreads
        SimpleImageAttachmentAdapter SimpleTextAttachmentAdapter SourceMessagePart SpeechAdapter
        SpeechState StartRun SubmittedFeedback SuggestionAdapter SwitchBranch TextMessagePart
        Thread ThreadAssistantMessage ThreadComposer ThreadItem ThreadList ThreadMessage
        ThreadMessageLike ThreadPage ThreadRuntime ThreadSuggestion ThreadSystemMessage
        ThreadUserMessage ThreadwireError ToolApproval ToolApprovalAnswer ToolApprovalOption
        ToolCall ToolCallLike ToolCallMessagePart ToolCallTiming ToolInterrupt ToolResultLike
        TransportState UserMessage UserMessagePart connect convert_any_message
        convert_external_messages convert_langchain_messages from_thread_message_like
        message_from_json message_text original_messages parse_partial_json to_generic_messages
        to_json
    """,
}

EVERYTHING = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module, names in PUBLIC.items()
    for name in names.split()
    if callable(getattr(module, name)) and not hasattr(getattr(module, name), "__args__")
]


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_public_names_are_these(module: ModuleType) -> None:
    names = PUBLIC[module].split()
    assert sorted(module.__all__) == sorted(names)
    assert module.__all__ == sorted(module.__all__)
    assert set(names) <= set(dir(module))


@pytest.mark.parametrize("thing", EVERYTHING)
def test_each_public_callable_and_its_methods_have_a_docstring(thing: Any) -> None:
    methods = [
        member
        for name, member in inspect.getmembers(thing, inspect.isroutine)
        if inspect.isclass(thing) and not name.startswith("_") and name not in dir(Exception)
    ]
    assert thing.__doc__
    for method in methods:
        assert inspect.getdoc(method), method


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        threadwire.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018


def test_client_and_agents_are_imported_without_the_server() -> None:
    code = "import sys, threadwire.client; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "threadwire.client" in loaded
    assert not loaded & {"starlette", "uvicorn", "sqlite3", "threadwire.endpoints", "threadwire.stores"}
