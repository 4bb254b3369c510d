"""Threadwire's client: follow threads of a server and send commands to them.

from threadwire.client import connect

async with connect("ws://127.0.0.1:8000/ws") as connection:
    async with connection.open("thread-1", agent="support") as thread:
        receipt = await thread.send(AddMessage.text("hello"))
        async for state in thread.states():
            ...

Runtimes hold a thread as messages with branches and a composer, whoever owns it: `LocalRuntime`
has a chat model of one function, `ExternalStoreRuntime` shows messages that are kept elsewhere,
`AssistantTransportRuntime` those of a server's thread. Converters make thread messages of other forms.
"""

from ..core.commands import (
    AddMessage,
    AddToolResult,
    Command,
    Regenerate,
    Resume,
    SwitchBranch,
    UserMessage,
)
from ..core.errors import CommandError, ConnectionClosed, Refused, ThreadwireError
from ..core.frames import Limits, Position, RunInfo
from ..core.frames import Tool as ToolCall
from ..messages.chat_model import (
    AbortSignal,
    ChatModelAdapter,
    ChatModelRunOptions,
    ChatModelRunResult,
    ModelContext,
    RunAborted,
)
from ..messages.data_stream import DataStreamError, DataStreamMessage
from ..messages.external import (
    ConverterMetadata,
    ExternalMessageConverter,
    convert_external_messages,
)
from ..messages.generic import to_generic_messages
from ..messages.joining import ToolResultLike
from ..messages.langchain import convert_langchain_messages
from ..messages.like import ConvertConfig, LikeMetadata, ThreadMessageLike, from_thread_message_like
from ..messages.mixed import convert_any_message
from ..messages.model import (
    AssistantMessagePart,
    AssistantMetadata,
    AudioData,
    AudioMessagePart,
    CompleteAttachment,
    CompleteStatus,
    DataMessagePart,
    FileMessagePart,
    GenerativeUIMessagePart,
    ImageMessagePart,
    IncompleteStatus,
    MessageMetadata,
    MessageStatus,
    MessageTiming,
    ReasoningMessagePart,
    RequiresActionStatus,
    RunningStatus,
    SourceMessagePart,
    SubmittedFeedback,
    TextMessagePart,
    ThreadAssistantMessage,
    ThreadMessage,
    ThreadSystemMessage,
    ThreadUserMessage,
    ToolApproval,
    ToolApprovalOption,
    ToolCallLike,
    ToolCallMessagePart,
    ToolCallTiming,
    ToolInterrupt,
    UserMessagePart,
    message_from_json,
    message_text,
    original_messages,
    to_json,
)
from ..messages.partial_json import parse_partial_json
from ..messages.repository import ExportedMessageRepository, MessageRepository, RepositoryItem
from .backoff import Backoff
from .connection import Connection, connect
from .errors import (
    ClientError,
    InvalidAdapter,
    InvalidMessage,
    MessageNotSent,
    NotFound,
    NotNow,
    NotSupported,
)
from .runtimes.actions import (
    AddToolResultOptions,
    AppendMessage,
    ResumeRun,
    StartRun,
    ThreadSuggestion,
    ToolApprovalAnswer,
)
from .runtimes.adapters import (
    Capabilities,
    DictationAdapter,
    DictationResult,
    FeedbackAdapter,
    HistoryAdapter,
    LoadedHistory,
    SpeechAdapter,
    SpeechState,
    SuggestionAdapter,
)
from .runtimes.assistant_transport import (
    AssistantTransportRuntime,
    ConnectionMetadata,
    PendingCommand,
    TransportState,
)
from .runtimes.attachments import (
    AttachmentAdapter,
    CompositeAttachmentAdapter,
    File,
    PendingAttachment,
    SimpleImageAttachmentAdapter,
    SimpleTextAttachmentAdapter,
)
from .runtimes.composer import Composer, EditComposer, ThreadComposer
from .runtimes.data_stream_model import DataStreamModel
from .runtimes.external_store import (
    BranchChange,
    ExternalStoreAdapter,
    ExternalStoreRuntime,
    RuntimeAdapters,
)
from .runtimes.external_threads import ExternalThread, ExternalThreadList, ExternalThreadListAdapter
from .runtimes.langchain_state import LangChainConverter
from .runtimes.local import LocalAdapters, LocalRuntime
from .runtimes.queue import MessageQueue, QueueItem
from .runtimes.server_threads import ServerThreads
from .runtimes.thread import ThreadRuntime
from .runtimes.thread_list import (
    InitializedThread,
    RemoteThread,
    RemoteThreadListAdapter,
    ThreadItem,
    ThreadList,
    ThreadPage,
)
from .runtimes.transport_over_http import AssistantTransportOverHttp
from .thread import Receipt, Thread

__all__ = [
    "AbortSignal",
    "AddMessage",
    "AddToolResult",
    "AddToolResultOptions",
    "AppendMessage",
    "AssistantMessagePart",
    "AssistantMetadata",
    "AssistantTransportOverHttp",
    "AssistantTransportRuntime",
    "AttachmentAdapter",
    "AudioData",
    "AudioMessagePart",
    "Backoff",
    "BranchChange",
    "Capabilities",
    "ChatModelAdapter",
    "ChatModelRunOptions",
    "ChatModelRunResult",
    "ClientError",
    "Command",
    "CommandError",
    "CompleteAttachment",
    "CompleteStatus",
    "Composer",
    "CompositeAttachmentAdapter",
    "Connection",
    "ConnectionClosed",
    "ConnectionMetadata",
    "ConvertConfig",
    "ConverterMetadata",
    "DataMessagePart",
    "DataStreamError",
    "DataStreamMessage",
    "DataStreamModel",
    "DictationAdapter",
    "DictationResult",
    "EditComposer",
    "ExportedMessageRepository",
    "ExternalMessageConverter",
    "ExternalStoreAdapter",
    "ExternalStoreRuntime",
    "ExternalThread",
    "ExternalThreadList",
    "ExternalThreadListAdapter",
    "FeedbackAdapter",
    "File",
    "FileMessagePart",
    "GenerativeUIMessagePart",
    "HistoryAdapter",
    "ImageMessagePart",
    "IncompleteStatus",
    "InitializedThread",
    "InvalidAdapter",
    "InvalidMessage",
    "LangChainConverter",
    "LikeMetadata",
    "Limits",
    "LoadedHistory",
    "LocalAdapters",
    "LocalRuntime",
    "MessageMetadata",
    "MessageNotSent",
    "MessageQueue",
    "MessageRepository",
    "MessageStatus",
    "MessageTiming",
    "ModelContext",
    "NotFound",
    "NotNow",
    "NotSupported",
    "PendingAttachment",
    "PendingCommand",
    "Position",
    "QueueItem",
    "ReasoningMessagePart",
    "Receipt",
    "Refused",
    "Regenerate",
    "RemoteThread",
    "RemoteThreadListAdapter",
    "RepositoryItem",
    "RequiresActionStatus",
    "Resume",
    "ResumeRun",
    "RunAborted",
    "RunInfo",
    "RunningStatus",
    "RuntimeAdapters",
    "ServerThreads",
    "SimpleImageAttachmentAdapter",
    "SimpleTextAttachmentAdapter",
    "SourceMessagePart",
    "SpeechAdapter",
    "SpeechState",
    "StartRun",
    "SubmittedFeedback",
    "SuggestionAdapter",
    "SwitchBranch",
    "TextMessagePart",
    "Thread",
    "ThreadAssistantMessage",
    "ThreadComposer",
    "ThreadItem",
    "ThreadList",
    "ThreadMessage",
    "ThreadMessageLike",
    "ThreadPage",
    "ThreadRuntime",
    "ThreadSuggestion",
    "ThreadSystemMessage",
    "ThreadUserMessage",
    "ThreadwireError",
    "ToolApproval",
    "ToolApprovalAnswer",
    "ToolApprovalOption",
    "ToolCall",
    "ToolCallLike",
    "ToolCallMessagePart",
    "ToolCallTiming",
    "ToolInterrupt",
    "ToolResultLike",
    "TransportState",
    "UserMessage",
    "UserMessagePart",
    "connect",
    "convert_any_message",
    "convert_external_messages",
    "convert_langchain_messages",
    "from_thread_message_like",
    "message_from_json",
    "message_text",
    "original_messages",
    "parse_partial_json",
    "to_generic_messages",
    "to_json",
]
